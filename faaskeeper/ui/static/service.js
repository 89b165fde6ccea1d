// What the service does now, as numbers with their course, and how one write flows.

import { get } from "./api.js";
import { bytes, el, pathLink, replace, svg, unique } from "./dom.js";
import { flow } from "./flow.js";

const EVERY_MS = 2000;
const KEPT = 45;

/** The course of a number, as a small chart. */
class Chart {
  constructor(title, show, about) {
    this.show = show;
    this.values = [];
    this.number = el("p", { class: "figure" }, "–");
    this.line = svg("polyline", { class: "line" });
    this.area = svg("polygon", { class: "area" });
    this.most = el("span", { class: "hint" });
    this.chart = svg("svg", { class: "chart", viewBox: "0 0 180 40", preserveAspectRatio: "none", "aria-hidden": "true" }, this.area, this.line);
    const id = unique("chart");
    this.element = el("section", { class: "card figurecard", "aria-labelledby": id }, el("h2", { id }, title), this.number, this.chart, this.most, about ? el("p", { class: "hint" }, about) : null);
  }

  take(value) {
    if (value === null || value === undefined) { this.number.textContent = "–"; return; }
    this.number.textContent = this.show(value);
    this.values = [...this.values.slice(1 - KEPT), value];
    const most = Math.max(...this.values, 1e-9);
    const points = this.values.map((each, at) => `${((KEPT - this.values.length + at) / (KEPT - 1)) * 180},${38 - (each / most) * 34}`);
    this.line.setAttribute("points", points.join(" "));
    this.area.setAttribute("points", `${points[0].split(",")[0]},40 ${points.join(" ")} 180,40`);
    this.most.textContent = `at most ${this.show(Math.max(...this.values))} in ${(this.values.length * EVERY_MS) / 1000} s`;
  }
}

const per = (value) => `${value.toLocaleString("en", { maximumSignificantDigits: 3 })}/s`;
const ms = (value) => `${value.toLocaleString("en", { maximumSignificantDigits: 3 })} ms`;
const plain = (value) => value.toLocaleString("en");
const dollars = (value) => `$${value.toFixed(2)}`;

export function serviceView(me) {
  const charts = {
    writes: new Chart("Writes", per, "Requests that the writer decided, by the log."),
    transactions: new Chart("Transactions", per, "A batch of requests may have several."),
    bytes: new Chart("Data written", (value) => `${bytes(value)}/s`),
    lag: new Chart("Lag", plain, "Transactions in the log, but not yet known to be in user storage: that is noted at intervals."),
    read: new Chart("Reading a node", ms, "From this page's server to the deployment's storage."),
    log: new Chart("Reading the log", ms),
    event: new Chart("Commit to event", ms, "The median of the last changes, from the writer to this page's server."),
    sessions: new Chart("Sessions", plain),
    znodes: new Chart("Nodes", plain),
  };
  const facts = el("div", { class: "cards" }), failed = el("p", { class: "error", role: "alert" });
  const ours = me.provider !== "zookeeper", picture = ours ? flow() : null, missing = el("p", { class: "hint" }, me.missing.service || "");
  const scrolls = ours ? {} : { tabIndex: 0, role: "region", "aria-label": "The service" }; // nothing in it has the focus
  const element = el("div", { class: "wideview", ...scrolls }, el("h1", {}, "The service"), failed,
    ours ? el("div", { class: "figures" }, Object.values(charts).map((each) => each.element)) : missing, facts,
    ours ? [el("h2", {}, "How one write flows"), picture.element] : null);
  let timer = 0, open = true;

  async function refresh() {
    try {
      take(await get("service"));
      failed.textContent = "";
    } catch (error) {
      failed.textContent = error.message;
    }
    if (open) timer = setTimeout(() => (document.hidden ? wait() : refresh()), EVERY_MS);
  }

  function wait() {
    timer = setTimeout(() => (document.hidden ? wait() : refresh()), EVERY_MS);
  }

  function take(found) {
    if (!ours) {
      missing.hidden = found.servers.length > 0;
      replace(facts, found.servers.map((each) => card(each.server, each.error ? el("p", { class: "error" }, each.error)
        : list(Object.entries(each.numbers).map(([name, value]) => [name.replaceAll("_", " "), plain(value)])))));
      return;
    }
    charts.writes.take(found.writes_per_s);
    charts.transactions.take(found.transactions_per_s);
    charts.bytes.take(found.bytes_per_s);
    charts.lag.take(found.lag);
    charts.read.take(found.stages.read);
    charts.log.take(found.stages.log);
    charts.event.take(found.stages.event);
    charts.sessions.take(found.sessions);
    charts.znodes.take(found.znodes);
    replace(facts, most(found), storage(found), letters(found), cost(found), ...servers(found), unknown(found));
  }

  refresh();
  return { element, show() {}, events: (events) => { if (picture) picture.pulse(events); }, close() { open = false; clearTimeout(timer); } };
}

const card = (title, ...children) => el("section", { class: "card" }, el("h2", {}, title), ...children);
const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;
const list = (rows) => el("dl", { class: "facts" }, rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));

function most(found) {
  const rows = found.paths.map(({ path, writes }) => el("tr", {}, el("td", {}, pathLink(path)), el("td", { class: "num" }, plain(writes))));
  return card(`Most written, in ${found.window_s} s`, rows.length ? el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "node"), el("th", { scope: "col", class: "num" }, "writes"))), el("tbody", {}, rows))
    : el("p", { class: "hint" }, "Nobody writes."));
}

const storage = (found) => card("Now", list([
  ["Last transaction", plain(found.transaction)], ["Requests in a batch", plain(found.batch)],
  ["Data", found.data_bytes === null ? "–" : bytes(found.data_bytes)], ["Ephemerals", found.ephemerals === null ? "–" : plain(found.ephemerals)],
  ["Sessions through servers", found.sessions === null ? "–" : plain(found.through_servers)]]));

function letters(found) {
  const { counts, why } = found.letters, queue = [["Worker queue", found.queue], ["Waiting in it", found.waiting]];
  if (!counts) return card("Queue and dead letters", list(queue), el("p", { class: "hint" }, sentence(why)));
  const whole = Object.values(counts).reduce((sum, each) => sum + each, 0);
  return card("Queue and dead letters", list([...queue, ...Object.entries(counts).map(([queue, number]) => [queue, plain(number)])]),
    el("p", { class: whole ? "error" : "hint" }, whole ? "Messages were given up: see 'fk deadletters'." : "No message was given up."));
}

function cost(found) {
  if (!found.month) return card("Cost", el("p", { class: "hint" }, sentence(found.unknown.cost)));
  const now = new Date(), begin = Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), 1), end = Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1, 1);
  const share = Math.max((now - begin) / (end - begin), 1e-6);
  return card("Cost of this month", list([["So far", dollars(found.month.dollars)], ["By its end, at this pace", dollars(found.month.dollars / share)],
    ...Object.entries(found.month.parts).map(([name, price]) => [name, dollars(price)])]), el("p", { class: "hint" }, `An estimate from the log and a table of prices, for a deployment that ran since the month began. Reads are not in it: ${found.unknown["cost of reads"] || "nobody counts them"}.`));
}

const servers = (found) => found.servers.map((each) => card(`Server ${each.server}`, each.error ? el("p", { class: "error" }, each.error)
  : list([["Requests", each.requests_per_s === null ? plain(each.requests) : per(each.requests_per_s)], ["Latency", ms(each.latency_ms || 0)], ["Waiting", plain(each.waiting)],
    ["Connections", plain(each.connections)], ["Watches", plain(each.watches)], ["Lag", plain(each.lag)]])));

const unknown = (found) => card("Not known", el("ul", { class: "plain" }, Object.entries(found.unknown).map(([what, why]) => el("li", {}, el("strong", {}, what), `: ${why}`))));
