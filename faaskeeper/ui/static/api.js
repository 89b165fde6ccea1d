// Requests to the server, and its stream of events.

export class Failed extends Error {
  constructor(message, kind, status, more) {
    super(message);
    this.kind = kind;
    this.status = status;
    this.more = more;
  }
}

async function answered(request) {
  let answer;
  try {
    answer = await request;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failed("the page's server does not answer", "down", 0, {});
  }
  if (answer.status === 401) {
    location.replace("/login" + location.hash);
    throw new Failed("log in first", "refused", 401, {});
  }
  const found = await answer.json().catch(() => ({ error: `the server answers ${answer.status}` }));
  if (!answer.ok) throw new Failed(found.error, found.kind, answer.status, found);
  return found;
}

const OTHER = "this page was loaded from another deployment, or one with other options: load it again";
let page = "";

/** Which page this is: changes say so, and a server that is another one since refuses them. */
export function belongsTo(name) {
  page = name;
}

const url = (route, query) => {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(query || {})) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && each !== undefined) words.append(name, each);
    }
  }
  return `/api/${route}?${words}`;
};

export const get = (route, query, signal) => answered(fetch(url(route, query), { signal }));

/** Where a file of this is. */
export const file = url;

export function send(method, route, query, body) {
  const raw = body instanceof Uint8Array;
  const headers = { "X-FK-UI": "1", "X-FK-UI-Page": page };
  if (body !== undefined) headers["Content-Type"] = raw ? "application/octet-stream" : "application/json";
  const sent = body === undefined || raw ? body : JSON.stringify(body);
  return answered(fetch(url(route, query), { method, headers, body: sent }));
}

export const logout = () => fetch("/logout", { method: "POST", headers: { "X-FK-UI": "1" } });

/** Lines of JSON as they come. */
export async function* lines(route, query, signal) {
  const answer = await fetch(url(route, query), { signal });
  if (!answer.ok) await answered(answer);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const found = (rest + value).split("\n");
    rest = found.pop();
    for (const each of found) if (each) yield JSON.parse(each); // an empty line: it goes on
  }
}

// ---- events ------------------------------------------------------------------------------------

/**
 * Follows the deployment. Each event has the transaction up to which everything was told, and after
 * any interruption the stream goes on behind it: nothing is left out, whoever was away.
 *
 * on: {state(name, why), batch(events), reset(), other(why)}; other: the server is another one since.
 */
export class Stream {
  constructor(on) {
    this.on = on;
    this.last = null;
    this.source = null;
    this.timer = 0;
    this.ready = new Promise((done) => { this.begun = done; });
    // A hidden tab holds no connection: browsers have few for each server.
    document.addEventListener("visibilitychange", () => (document.hidden ? this.pause() : this.check()));
    window.addEventListener("pagehide", () => this.pause());
    this.open();
  }

  pause() {
    clearTimeout(this.timer);
    if (this.source) this.source.close();
    this.source = null;
  }

  open() {
    if (this.source) return;
    this.source = new EventSource(url("events", { since: this.last }));
    this.source.onmessage = (event) => this.take(event);
    this.source.onerror = () => this.again();
  }

  again() {
    this.on.state("away", "the page's server does not answer");
    this.pause();
    this.timer = setTimeout(() => this.check(), 1000);
  }

  /** Go on, if the server is the one of before: numbers of another deployment's events mean nothing. */
  async check() {
    if (document.hidden) return;
    const answer = await fetch("/api/me").catch(() => null);
    const me = answer && answer.ok ? await answer.json().catch(() => null) : null;
    if (answer && answer.status === 401) location.replace("/login" + location.hash);
    else if (me && me.page !== page) this.on.other(OTHER);
    else if (answer) this.open();
    else this.again();
  }

  take(event) {
    const batch = JSON.parse(event.data);
    if (event.lastEventId) this.last = event.lastEventId;
    if (batch.down) {
      this.on.state("down", batch.down);
      return;
    }
    this.on.state("live", "");
    this.begun();
    if (batch.reset) this.on.reset();
    else if (batch.events.length) this.on.batch(batch.events);
  }
}
