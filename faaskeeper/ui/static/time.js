// The past: the tree and each node as of any moment that the log retains, who did what, and restoring.

import { file, get, send } from "./api.js";
import { count, dialog, el, field, full, link, note, pathLink, replace, short, svg, time } from "./dom.js";
import { diff } from "./diff.js";
import { bytesOf } from "./formats.js";
import { crumbs, dataView, FIRST, further, historyList } from "./node.js";
import { search } from "./search.js";
import { Tree } from "./tree.js";

/** So many changes below a node are looked at. */
const BELOW = 500;

export function timeView(me) {
  if (me.missing.time) {
    return { element: el("div", { class: "empty" }, el("h1", {}, "Time"), el("p", {}, me.missing.time)), show() {} };
  }
  return new Past(me).view();
}

class Past {
  constructor(me) {
    this.me = me;
    this.range = null;
    this.at = null; // a transaction; null: not known yet
    this.path = "/";
    this.asked = 0;
    this.turn = 0;
    this.form = {};
    this.tree = new Tree("Nodes then", {
      children: async (path) => (await get("past/children", { path, at: this.at })).names,
      rows: (path, name) => this.rowsThen(path, name),
    }, (path) => { location.hash = link(`time/${this.at}`, path); });
    this.tree.has = (path) => this.mayHave(path);
    this.slider = el("input", {
      type: "range", min: 0, max: 0, value: 0, step: 1, "aria-label": "Transaction",
      oninput: () => this.slid(), onchange: () => this.go(Number(this.slider.value)),
    });
    this.ticks = svg("svg", { class: "ticks", preserveAspectRatio: "none", viewBox: "0 0 1000 10", "aria-hidden": "true" });
    this.ends = el("div", { class: "ends hint" });
    this.about = el("p", { class: "moment", role: "status" });
    this.when = el("input", { type: "datetime-local", step: 1, onchange: () => this.byTime() });
    this.pane = el("section", { class: "right", "aria-label": "Node then" });
  }

  view() {
    const found = search(this.tree.element, () => `time/${this.at}`, "Search paths of now");
    const button = (text, label, onclick) => el("button", { type: "button", "aria-label": label, title: label, onclick }, text);
    const bar = el("section", { class: "timebar", "aria-label": "Moment" },
      el("div", { class: "slider" }, this.ticks, this.slider, this.ends), this.about,
      el("div", { class: "actions" },
        button("‹", "The change before", () => this.step(-1)), button("›", "The next change", () => this.step(1)),
        button("Now", "Now", () => this.go(null)), field("Go to", this.when)));
    const element = el("div", { class: "timeview" }, el("h1", { class: "visually-hidden" }, "Time"), bar, el("div", { class: "split has-node" },
      el("section", { class: "left", "aria-label": "Tree" }, found.bar, found.found, this.tree.element), this.pane));
    return {
      element,
      show: (path, at) => this.show(path, at),
      events: () => this.later(),
      reset: () => this.later(),
    };
  }

  /** What is known of rows then: of a node whose children have not changed since, what is now. */
  async rowsThen(path, name) {
    const { at } = this, then = Object.create(null); // a node may be called __proto__
    for (const [each, about] of Object.entries(await get("rows", { path, name }))) {
      if (BigInt(about.created) <= BigInt(at)) then[each] = { ...about, children: BigInt(about.changed) <= BigInt(at) ? about.children : null };
    }
    return then;
  }

  /** Whether a node may have children then: it does not show before it is opened, if they changed since. */
  mayHave(path) {
    const names = this.tree.names.get(path), about = this.tree.about.get(path);
    if (names) return path === "/" || names.length > 0;
    return !about || about.children !== 0;
  }

  later() {
    if (this.soon) return;
    this.soon = setTimeout(() => { this.soon = 0; this.measure().catch(() => {}); }, 500);
  }

  async measure() {
    this.range = await get("past/range");
    this.slider.min = this.range.first;
    this.slider.max = this.range.last;
    replace(this.ends, el("span", {}, "kept from ", time(this.range.first_time)), el("span", {}, "last change ", time(this.range.last_time)));
    this.draw();
  }

  async show(path, at) {
    const turn = ++this.turn;
    this.path = path;
    try {
      if (!this.range || at === "now" || Number(at) > this.range.last) await this.measure();
    } catch (error) {
      this.about.textContent = error.message;
      return;
    }
    if (turn !== this.turn) return; // somebody has moved on meanwhile
    const wanted = at === "now" ? this.range.last : Math.min(Math.max(Number(at) || 0, this.range.first), this.range.last);
    const moved = wanted !== this.at;
    this.at = wanted;
    this.slider.value = wanted;
    if (moved) {
      this.describe(wanted);
      await this.tree.reload();
    }
    await this.tree.reveal(path);
    if (turn !== this.turn) return;
    const wantedNow = `${wanted} ${path}`;
    if (wantedNow !== this.shown) {
      this.shown = wantedNow;
      await this.read();
    }
  }

  go(at) {
    this.turn++;
    location.hash = link(`time/${at === null ? "now" : at}`, this.path);
  }

  slid() {
    this.describe(Number(this.slider.value));
  }

  async describe(at) {
    const asked = ++this.asked;
    try {
      const { at: row } = await get("past/moment", { at });
      if (asked !== this.asked) return;
      const what = row ? [` · ${row.kind} `, pathLink(row.path, `time/${row.txid}`), row.session ? ` by session ${short(row.session)}` : " by the service", row.by.length ? ` (${row.by.join(", ")})` : ""] : [];
      replace(this.about, el("strong", {}, `Transaction ${at}`), at === this.range.last ? " (now)" : "", row ? [", ", time(row.time), `, ${full(row.time)}`] : "", ...what);
      this.slider.setAttribute("aria-valuetext", `transaction ${at}${row ? `, ${full(row.time)}` : ""}`);
      if (row) this.when.value = full(row.time).slice(0, 19).replace(" ", "T");
    } catch (error) {
      if (asked === this.asked) this.about.textContent = error.message;
    }
  }

  async byTime() {
    if (!this.when.value) return;
    try {
      const { at } = await get("past/moment", { time: new Date(this.when.value).getTime() + 999 });
      this.go(at ? at.txid : this.range.first);
    } catch (error) {
      this.about.textContent = error.message;
    }
  }

  async step(by) {
    if (by > 0) {
      const { next } = await get("past/moment", { at: this.at });
      if (next) this.go(next);
    } else {
      const { at: row } = await get("past/moment", { at: Math.max(this.at - 1, 0) });
      this.go(row ? row.txid : this.range.first);
    }
  }

  /** Where this node changed, along the slider. */
  draw() {
    const { first, last } = this.range, width = Math.max(last - first, 1);
    replace(this.ticks, (this.rows || []).filter((row) => row.txid >= first).map((row) =>
      svg("rect", { x: ((row.txid - first) / width) * 1000 - 1, y: 0, width: 2, height: 10, class: `tick ${row.kind}` })));
  }

  // ---- one node --------------------------------------------------------------------------------

  async read(whole = 0) {
    const { path, at } = this;
    const read = async (route, query) => { try { return await get(route, query); } catch (error) { return error; } };
    const [then, now, history, below] = await Promise.all([
      read("past/node", { path, at }), read("node", { path }), read("past/history", { path, limit: 200, whole }),
      read("past/history", { path, below: 1, limit: BELOW, after: at, whole }),
    ]);
    if (path !== this.path || at !== this.at) return;
    this.rows = history.rows || [];
    this.reaches = history.more ? 0 : history.since || 0;
    this.draw();
    this.render(then, now, below);
  }

  render(then, now, below) {
    const { path, at, me } = this;
    const gone = then instanceof Error, nowGone = now instanceof Error;
    const data = gone ? null : bytesOf(then.data), nowData = nowGone || now.data === null ? null : bytesOf(now.data);
    const absent = gone && then.status === 404;
    const changed = !(gone && nowGone) && !(data && nowData && data.length === nowData.length && data.every((each, place) => each === nowData[place]));
    const can = !me.read_only && (!gone || absent) && changed;
    replace(this.pane, el("h2", { class: "visually-hidden" }, `${path} at transaction ${at}`), el("a", { class: "back", href: link("tree", path) }, "‹ Now"), crumbs(path, `time/${at}`),
      el("p", { class: "line" }, gone ? then.message : [`version ${then.stat.version}, `, then.stat.mzxid === "0" ? FIRST : ["set ", time(then.stat.mtime), ` by transaction ${then.stat.mzxid}`], `, ${then.kind}`].flat()),
      el("div", { class: "actions" },
        can ? el("button", { type: "button", class: "primary", onclick: () => this.restore(path, at, data, nowGone ? null : now, nowData) }, "Restore this") : null,
        el("a", { class: "button", href: link("tree", path) }, "See it now"),
        gone ? null : el("a", { class: "button", href: file("past/download", { path, at }), download: "" }, "Download")),
      gone ? null : section("Data then", dataView(data, this.form)),
      section("Compare", this.comparison(data, nowData)),
      section("Below it, from then to now", this.since(below)),
      section("What happened to it", this.rows.length ? historyList(this.rows, this.lastBefore(at))
        : this.reaches ? null : el("p", { class: "hint" }, "Nothing, as far as the log goes back."), further(this.reaches, () => this.read(1))));
  }

  lastBefore(at) {
    const row = this.rows.find((each) => each.txid <= at);
    return row ? row.txid : null;
  }

  comparison(data, nowData) {
    const held = el("div", {}, diff(data, nowData, [`at ${this.at}`, "now"]));
    const others = this.rows.filter((row) => row.kind !== "acl");
    const choice = el("select", { onchange: async () => {
      if (choice.value === "now") { replace(held, diff(data, nowData, [`at ${this.at}`, "now"])); return; }
      const other = await get("past/node", { path: this.path, at: choice.value }).catch(() => null);
      replace(held, diff(other ? bytesOf(other.data) : null, data, [`at ${choice.value}`, `at ${this.at}`]));
    } }, el("option", { value: "now" }, "now"),
    others.map((row) => [row.txid - 1, row]).filter(([before]) => before >= this.range.first).map(([before, row]) =>
      el("option", { value: before }, `before transaction ${row.txid} (${row.kind})`)));
    return el("div", {}, field("With", choice), held);
  }

  /** Which nodes below differ between then and now. */
  since({ rows, more, since, message }) {
    if (!rows) return el("p", { class: "hint" }, message);
    const { path, at } = this, found = new Map(); // by path: its changes since, the newest first
    for (const row of rows) if (row.txid > at && row.path !== path) found.set(row.path, [...(found.get(row.path) || []), row]);
    const left = more && rows.at(-1).txid > at ? el("p", { class: "hint" }, `The last ${BELOW} changes are looked at: there are more.`)
      : since > at ? further(since, () => this.read(1)) : null;
    if (!found.size) return el("div", {}, left || el("p", { class: "hint" }, "Nothing has changed below it."));
    return el("div", {}, el("ul", { class: "plain" }, [...found].map(([each, [last, ...earlier]]) => el("li", {},
      pathLink(each, `time/${at}`), ` ${differs(last, earlier.at(-1) || last)}, ${count(earlier.length + 1, "change")}, the last `, time(last.time),
      last.session ? ` by session ${short(last.session)}` : " by the service"))), left);
  }

  restore(path, at, data, now, nowData) {
    const error = el("p", { class: "error", role: "alert" });
    const shown = dialog(`Restore ${path}?`,
      el("p", {}, data === null ? "There was no node then: it is deleted." : now ? `It gets the data that it had at transaction ${at}, as a new version.` : `It is created with the data and the ACL that it had at transaction ${at}.`,
        " Children stay as they are, and the log keeps what is now."),
      data && nowData ? diff(nowData, data, ["now", "then"]) : null, error,
      el("div", { class: "actions" },
        el("button", { type: "button", class: "primary", onclick: async () => {
          try {
            const { did } = await send("POST", "past/restore", {}, { path, at, version: now ? now.stat.version : null });
            note(`${did}.`);
            shown.close();
            location.hash = link("tree", path);
          } catch (failed) {
            error.textContent = failed.message;
          }
        } }, "Restore"),
        el("button", { type: "button", class: "quiet", onclick: () => shown.close() }, "Cancel")));
    shown.classList.add("wide");
  }
}

/** In a word, by the last and the first change after then. */
function differs(last, first) {
  if (last.kind === "deleted") return first.kind === "created" ? "came and went" : "is gone";
  return first.kind === "created" ? "is new" : "has changed";
}

const section = (title, ...children) => el("section", { class: "card" }, el("h2", {}, title), ...children);
