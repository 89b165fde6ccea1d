/* Keeps a server of ZooKeeper's protocol busy, from one thread.

   load PORT OPERATION CONNECTIONS DEPTH SECONDS

   Each connection has a session and a znode of 1 KB of its own, /load/N, and keeps DEPTH requests
   under way. OPERATION: get, exists, set, create (children of the connection's znode), or mix (one
   set for nine gets). Prints one line of JSON: requests a second, median and 99th percentile of the
   time to a reply (ms), and how many replies were errors.

   Compiled by benchmarks/saturation.py. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CREATE = 1, EXISTS = 3, GET = 4, SET = 5 };
enum { DATA = 1024, MOST_DEPTH = 4096, MOST_SAMPLES = 4000000, TIMEOUT_MS = 30000 };
enum { IN_BYTES = 1 << 16, OUT_BYTES = 1 << 20, FRAME_BYTES = DATA + 256 };

struct connection {
  int socket;
  int xid;
  int skip; /* bytes of the present reply that are still to come */
  int filled;
  long made; /* children created */
  char path[32];
  char in[IN_BYTES];
  double sent[MOST_DEPTH]; /* when the request with an xid was sent, by its last bits */
};

static char data[DATA];
static char out[OUT_BYTES];
static double *samples;
static long answered, errors, sampled;
static unsigned chance = 1;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec * 1e-9;
}

static char *put_int(char *at, int32_t value) {
  value = htonl(value);
  memcpy(at, &value, 4);
  return at + 4;
}

static char *put_bytes(char *at, const char *bytes, int length) {
  at = put_int(at, length);
  memcpy(at, bytes, length);
  return at + length;
}

static char *put_string(char *at, const char *text) { return put_bytes(at, text, strlen(text)); }

static int int_at(const char *at) {
  int32_t value;
  memcpy(&value, at, 4);
  return ntohl(value);
}

/* Writes a request's frame; returns its end. */
static char *request(char *frame, struct connection *each, int kind, const char *path) {
  char *at = frame + 4;
  at = put_int(at, ++each->xid);
  at = put_int(at, kind);
  at = put_string(at, path);
  if (kind == GET || kind == EXISTS) {
    *at++ = 0; /* no watch */
  } else {
    at = put_bytes(at, data, DATA);
    if (kind == SET) {
      at = put_int(at, -1); /* any version */
    } else {
      at = put_int(at, 1); /* one entry in its ACL: everything for anyone */
      at = put_int(at, 31);
      at = put_string(at, "world");
      at = put_string(at, "anyone");
      at = put_int(at, 0); /* persistent */
    }
  }
  put_int(frame, at - frame - 4);
  each->sent[each->xid % MOST_DEPTH] = now();
  return at;
}

static void send_all(int socket, const char *bytes, long length) {
  while (length > 0) {
    long sent = write(socket, bytes, length);
    if (sent < 0 && errno != EAGAIN)
      fail("write");
    if (sent > 0) {
      bytes += sent;
      length -= sent;
    }
  }
}

static void receive_all(int socket, char *bytes, int length) {
  while (length > 0) {
    int received = read(socket, bytes, length);
    if (received <= 0)
      fail("read");
    bytes += received;
    length -= received;
  }
}

/* Receives one frame, while the socket still waits. */
static void receive_frame(struct connection *each) {
  char length[4];
  receive_all(each->socket, length, 4);
  if (int_at(length) > IN_BYTES)
    fail("a long frame");
  receive_all(each->socket, each->in, int_at(length));
}

static void open_session(struct connection *each, int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  int one = 1;
  char *at = out + 4;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  each->socket = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(each->socket, (void *)&address, sizeof address))
    fail("connect");
  setsockopt(each->socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  memset(at, 0, 45); /* version, last zxid, time-out, session, password, read-only */
  put_int(at + 12, TIMEOUT_MS);
  put_int(at + 24, 16);
  put_int(out, 45);
  send_all(each->socket, out, 49);
  receive_frame(each);
}

/* Sends so many requests. */
static void keep_busy(struct connection *each, const char *operation, int number) {
  char *end = out, path[64];
  while (number-- > 0) {
    int kind = GET;
    if (end - out > OUT_BYTES - FRAME_BYTES) {
      send_all(each->socket, out, end - out);
      end = out;
    }
    chance = chance * 1103515245 + 12345;
    if (!strcmp(operation, "exists"))
      kind = EXISTS;
    else if (!strcmp(operation, "set") || (!strcmp(operation, "mix") && (chance >> 16) % 10 == 0))
      kind = SET;
    else if (!strcmp(operation, "create"))
      kind = CREATE;
    snprintf(path, sizeof path, "%s/%d-%ld", each->path, getpid(), each->made);
    each->made += kind == CREATE;
    end = request(end, each, kind, kind == CREATE ? path : each->path);
  }
  send_all(each->socket, out, end - out);
}

/* Takes in what has come; returns the number of replies. */
static int replies(struct connection *each) {
  int at = 0, number = 0;
  int received = read(each->socket, each->in + each->filled, IN_BYTES - each->filled);
  double time = now();
  if (received <= 0) {
    if (received < 0 && errno == EAGAIN)
      return 0;
    fail("the server closed a connection");
  }
  each->filled += received;
  for (;;) {
    int some = each->filled - at < each->skip ? each->filled - at : each->skip;
    at += some;
    each->skip -= some;
    if (each->skip || each->filled - at < 20)
      break;
    int xid = int_at(each->in + at + 4);
    if (xid > 0) {
      number++;
      errors += int_at(each->in + at + 16) != 0;
      if (sampled < MOST_SAMPLES)
        samples[sampled++] = time - each->sent[xid % MOST_DEPTH];
    }
    each->skip = int_at(each->in + at);
    at += 4;
  }
  memmove(each->in, each->in + at, each->filled - at);
  each->filled -= at;
  return number;
}

static int order(const void *one, const void *other) {
  double difference = *(const double *)one - *(const double *)other;
  return difference < 0 ? -1 : difference > 0;
}

int main(int count, char **words) {
  if (count != 6) {
    fprintf(stderr, "usage: load PORT OPERATION CONNECTIONS DEPTH SECONDS\n");
    return 2;
  }
  const char *operation = words[2];
  int port = atoi(words[1]), number = atoi(words[3]), depth = atoi(words[4]);
  struct connection *all = calloc(number, sizeof *all);
  struct epoll_event events[256];
  int poll = epoll_create1(0);
  samples = malloc(MOST_SAMPLES * sizeof *samples);
  if (!all || !samples || poll < 0 || depth < 1 || depth >= MOST_DEPTH)
    fail("cannot begin");
  memset(data, 'x', DATA);
  for (int i = 0; i < number; i++) {
    struct connection *each = all + i;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = each};
    open_session(each, port);
    for (int step = i != 0; step < 2; step++) { /* these may exist */
      snprintf(each->path, sizeof each->path, step ? "/load/%d" : "/load", i);
      send_all(each->socket, out, request(out, each, CREATE, each->path) - out);
      receive_frame(each);
    }
    fcntl(each->socket, F_SETFL, O_NONBLOCK);
    epoll_ctl(poll, EPOLL_CTL_ADD, each->socket, &event);
  }
  double began = now(), end = began + atof(words[5]);
  for (int i = 0; i < number; i++)
    keep_busy(all + i, operation, depth);
  while (now() < end) {
    int ready = epoll_wait(poll, events, 256, 100);
    for (int i = 0; i < ready; i++) {
      int some = replies(events[i].data.ptr);
      answered += some;
      keep_busy(events[i].data.ptr, operation, some);
    }
  }
  double took = now() - began;
  qsort(samples, sampled, sizeof *samples, order);
  printf("{\"rate\": %.1f, \"median_ms\": %.3f, \"p99_ms\": %.3f, \"errors\": %ld}\n", answered / took,
         sampled ? samples[sampled / 2] * 1e3 : 0, sampled ? samples[sampled * 99 / 100] * 1e3 : 0, errors);
  return 0;
}
