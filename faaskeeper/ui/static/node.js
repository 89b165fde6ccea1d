// One node as it is now: data, facts, ACL, children, watches, locks, what happened to it.

import { file, get } from "./api.js";
import { bytes, childOf, count, el, field, full, link, nameOf, parentOf, pathLink, replace, short, time, unique } from "./dom.js";
import { aclDialog, createDialog, deleteDialog, drafts, Editor, uploadTo } from "./edit.js";
import { bytesOf, formsOf, show } from "./formats.js";
import { contenders } from "./sessions.js";

const LISTED = 100;
export const FIRST = "there from the beginning";
const EVERY_MS = 1000;

/** The data of a node in one of its forms, with a choice of them; what somebody chose is remembered. */
export function dataView(data, remembered = {}) {
  if (!data.length) return el("p", { class: "hint" }, "No data.");
  const forms = formsOf(data);
  const held = el("div");
  const buttons = forms.map((form) => el("button", { type: "button", onclick: () => { remembered.form = form; choose(form); } }, form));
  const choose = (form) => {
    buttons.forEach((each, at) => each.setAttribute("aria-pressed", String(forms[at] === form)));
    replace(held, show(data, form));
  };
  choose(forms.includes(remembered.form) ? remembered.form : forms[0]);
  return el("div", {}, el("div", { class: "segments", role: "group", "aria-label": "Show as" }, buttons), held);
}

export function crumbs(path, view = "tree") {
  const parts = path === "/" ? [] : path.slice(1).split("/");
  let at = "";
  const items = [el("li", {}, el("a", { href: link(view, "/"), "aria-label": "root" }, "/"))];
  parts.forEach((name, number) => {
    at = `${at}/${name}`;
    const last = number === parts.length - 1;
    items.push(el("li", {}, el("a", { href: link(view, at), "aria-current": last ? "location" : null }, name)));
  });
  return el("nav", { "aria-label": "Path" }, el("ol", { class: "crumbs" }, items));
}

const card = (title, ...children) => {
  const id = unique("card");
  return el("section", { class: "card", "aria-labelledby": id }, el("h2", { id }, title), ...children);
};

export class NodePane {
  constructor(me) {
    this.me = me;
    this.path = null;
    this.node = null;
    this.form = {};
    this.editor = null;
    this.asked = 0;
    this.looked = -EVERY_MS;
    this.parts = new Map(); // what was read later stays until it is read again
    this.body = el("div", { class: "pane-body" });
    this.element = el("section", { class: "right", "aria-label": "Node", tabIndex: -1 }, this.body);
  }

  focus() {
    const data = this.body.querySelector(".data") || this.element;
    data.focus();
  }

  close() {
    this.path = null;
  }

  show(path) {
    if (path === this.path) return;
    this.path = path;
    this.node = null;
    this.editor = null;
    this.form = {};
    this.parts.clear();
    this.refresh();
  }

  take(events) {
    const mine = events.filter((event) => event.path === this.path);
    const below = events.some((event) => event.path !== "/" && parentOf(event.path) === this.path && (event.kind === "created" || event.kind === "deleted"));
    if (this.editor && mine.length) this.editor.changed(mine.at(-1));
    else if (mine.length || below) this.later();
  }

  later() {
    if (this.soon) return;
    const wait = performance.now() - this.looked > EVERY_MS ? 150 : EVERY_MS; // where much happens, some together
    this.soon = setTimeout(() => { this.soon = 0; this.refresh(); }, wait);
  }

  async refresh() {
    if (this.path === null || this.editor) return;
    const path = this.path, asked = ++this.asked;
    this.looked = performance.now();
    let node = null, failed = null;
    try {
      node = await get("node", { path });
    } catch (error) {
      failed = error;
    }
    if (asked !== this.asked || path !== this.path || this.editor) return;
    this.node = node;
    if (failed) this.missing(failed);
    else this.render();
    const draft = drafts.get(path);
    if (!draft) return;
    if (failed) this.body.append(this.holder = el("div"));
    draft.again(node, (editor) => this.edited(editor));
    this.editing(draft);
  }

  missing(error) {
    const then = this.me.missing.time ? null : el("a", { href: link("time/now", this.path), class: "button" }, "Look at its past");
    const make = error.status === 404 && !this.me.read_only && this.path !== "/"
      ? el("button", { type: "button", onclick: () => createDialog(parentOf(this.path), nameOf(this.path)) }, "Create it") : null;
    replace(this.body, this.heading(), this.back(), crumbs(this.path), el("p", { class: "empty" }, error.message, "."), el("div", { class: "actions" }, make, then));
  }

  heading() {
    return el("h2", { class: "visually-hidden" }, this.path);
  }

  back() {
    return el("a", { class: "back", href: "#/tree/" }, "‹ All nodes");
  }

  render() {
    const { node } = this;
    const focused = document.activeElement && this.body.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    replace(this.body, this.heading(), this.back(), crumbs(node.path), this.line(), this.actions(), this.dataCard(), this.factsCard(),
      this.aclCard(), this.childrenCard(), this.lockCard(), this.watchesCard(), this.historyCard());
    if (focused) {
      const again = this.body.querySelector(`[data-key="${focused}"]`);
      if (again) again.focus();
    }
  }

  line() {
    const { stat } = this.node;
    const by = el("span");
    this.by = by;
    const changed = stat.mzxid === stat.czxid ? "created" : "changed";
    const when = stat.mzxid === "0" ? [FIRST] : [`${changed} `, time(stat.mtime), by, `, txid ${stat.mzxid}`];
    return el("p", { class: "line" }, when, ` · version ${stat.version} · ${bytes(stat.dataLength)}`,
      this.node.kind === "persistent" ? null : el("span", { class: "badge" }, this.node.kind),
      this.node.recipe ? el("span", { class: "badge" }, this.node.recipe) : null);
  }

  actions() {
    const { node, me } = this, { rights, path } = node;
    const link_ = el("a", { class: "button", href: file("download", { path }), download: "", "data-key": "download" }, "Download");
    const then = me.missing.time ? null : el("a", { class: "button", href: link("time/now", path), "data-key": "time" }, "Past");
    if (me.read_only) return el("div", { class: "actions" }, rights.read ? link_ : null, then);
    const button = (key, text, allowed, why, onclick, kind = "") => el("button", {
      type: "button", class: kind, "data-key": key, disabled: !allowed, title: allowed ? "" : why, onclick,
    }, text);
    const no = "The ACL does not give this session that right.";
    return el("div", { class: "actions" },
      button("edit", "Edit", rights.write && rights.read, no, () => this.edit(), "primary"),
      button("create", "New child", rights.create && node.kind !== "ephemeral", node.kind === "ephemeral" ? "Ephemerals have no children." : no, () => createDialog(path)),
      button("acl", "ACL", rights.admin && node.acl, no, () => aclDialog(node, () => this.refresh())),
      button("upload", "Upload", rights.write, no, () => uploadTo(node, () => this.refresh())),
      rights.read ? link_ : null, then,
      button("delete", "Delete", rights.delete && !node.stat.numChildren, node.stat.numChildren ? "It has children." : no, () => deleteDialog(path, node), "danger"));
  }

  edit() {
    if (!this.node || this.node.data === null || this.editor || !this.node.rights.write) return;
    this.editing(new Editor(this.node, (editor) => this.edited(editor)));
    this.editor.focus();
  }

  editing(editor) {
    this.editor = editor;
    replace(this.holder, editor.element);
  }

  edited(editor) {
    if (this.editor !== editor) return; // another node is shown by now
    this.editor = null;
    this.refresh();
  }

  /** A part of this node: the element of before, with what it shows. */
  part(key) {
    if (!this.parts.has(key)) this.parts.set(key, el("div"));
    return this.parts.get(key);
  }

  dataCard() {
    const { data, stat } = this.node, part = this.part("data");
    if (part.dataset.of !== stat.mzxid || data === null) { // otherwise what somebody folded stays so
      part.dataset.of = stat.mzxid;
      replace(part, data === null ? el("p", { class: "hint" }, "The ACL does not let this session read the data.") : dataView(bytesOf(data), this.form));
    }
    this.holder = el("div", {}, part);
    return card("Data", this.holder);
  }

  factsCard() {
    const { stat, kind, ttl } = this.node;
    const owner = stat.ephemeralOwner === "0" ? null : short(stat.ephemeralOwner);
    const rows = [
      ["Created", stat.czxid === "0" ? [FIRST] : [time(stat.ctime), ` (${full(stat.ctime)}), by transaction ${stat.czxid}`]],
      ["Data changed", stat.mzxid === stat.czxid ? ["never"] : [time(stat.mtime), ` (${full(stat.mtime)}), by transaction ${stat.mzxid}; ${count(stat.version, "time")} so far`]],
      ["Children changed", [stat.pzxid === stat.czxid ? "never" : `by transaction ${stat.pzxid}; ${count(stat.cversion, "time")} so far`]],
      ["ACL changed", [stat.aversion ? count(stat.aversion, "time") : "never"]],
      ["Kind", [{ persistent: "stays until somebody deletes it", container: "container: deleted after its last child",
        ttl: `deleted once it was not changed for ${ttl} ms and has no children`, ephemeral: "ephemeral: ends with its session" }[kind]]],
      owner && ["Owner", [el("a", { href: "#/sessions" }, `session ${owner}`)]],
      ["Size", [`${stat.dataLength.toLocaleString("en")} bytes`, this.node.dataless ? " (null, not empty)" : ""]],
    ];
    return card("Facts", el("dl", { class: "facts" }, rows.filter(Boolean).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])));
  }

  aclCard() {
    const { acl } = this.node;
    if (!acl) return card("ACL", el("p", { class: "hint" }, "This session may not see it."));
    const words = { 1: "read", 2: "write", 4: "create", 8: "delete", 16: "admin" };
    const rows = acl.map(([, [permissions, scheme, id]]) => el("tr", {}, el("td", {}, scheme), el("td", {}, el("code", {}, id || "–")),
      el("td", {}, Object.entries(words).filter(([bit]) => permissions & bit).map(([, word]) => word).join(", ") || "nothing")));
    return card("ACL", el("table", {}, el("thead", {}, el("tr", {}, ["scheme", "id", "may"].map((each) => el("th", { scope: "col" }, each)))), el("tbody", {}, rows)));
  }

  childrenCard() {
    const number = this.node.stat.numChildren;
    if (!number) return null;
    const list = el("ul", { class: "chips" }), part = this.part("children");
    const { path } = this.node;
    get("children", { path, first: LISTED }).then(({ names, stat }) => {
      replace(part, list);
      const more = stat.numChildren - names.length;
      list.append(...names.map((name) => el("li", {}, pathLink(childOf(path, name), "tree", name))),
        more > 0 ? el("li", { class: "hint" }, `${more.toLocaleString("en")} more in the tree`) : "");
    }).catch(() => {});
    return card(count(number, "child", "children"), part);
  }

  lockCard() {
    if (!this.node.stat.numChildren) return null;
    const held = this.part("lock"), leases = this.leases;
    get("contenders", { path: this.node.path, semaphore: leases }).then(({ rows }) => {
      replace(held, rows.length ? card("Who holds, who waits", contenders(rows), this.semaphore(rows)) : null);
    }).catch(() => {});
    return held;
  }

  /** How many hold a semaphore is known to its users only. */
  semaphore(rows) {
    if (!rows.some((row) => row.recipe === "Semaphore")) return null;
    return field("How many may hold it", el("input", { type: "number", min: 1, value: this.leases || "", onchange: (event) => {
      this.leases = Number(event.target.value) || null;
      this.lockCard();
    } }), "The semaphore does not say.");
  }

  watchesCard() {
    const { watches } = this.node;
    if (watches === null) return card("Watches", el("p", { class: "hint" }, this.me.missing.watches || "Not known here."));
    if (!watches.length) return card("Watches", el("p", { class: "hint" }, "Nobody watches this node."));
    return card("Watches", el("ul", { class: "plain" }, watches.slice(0, LISTED).map(({ session, kind, path }) => el("li", {},
      `session ${short(session)}`, session === this.me.session ? " (this page)" : "", `: ${kind}`, path === this.node.path ? "" : [" of ", pathLink(path)]))));
  }

  historyCard() {
    if (this.me.missing.time) return card("History", el("p", { class: "hint" }, this.me.missing.time));
    const held = this.part("history");
    const { path, stat } = this.node, by = this.by;
    const show = (whole) => get("past/history", { path, limit: 15, whole }).then(({ rows, since, more }) => {
      const last = rows.find((row) => String(row.txid) === stat.mzxid);
      if (last) by.textContent = last.session ? ` by session ${short(last.session)}${last.by.length ? ` (${last.by.join(", ")})` : ""}` : " by the service";
      replace(held, rows.length ? historyList(rows) : since ? null : el("p", { class: "hint" }, "The log has nothing of it any more."),
        more ? null : further(since, () => show(1)));
    }).catch((error) => replace(held, el("p", { class: "hint" }, error.message)));
    show(0);
    return card("History", held);
  }
}

/** How far back the log was looked at, and the rest of it if somebody asks for that; null: it was all. */
export function further(since, ask) {
  return since ? el("p", { class: "hint" }, `The log was looked at back to transaction ${since}. `,
    el("button", { type: "button", onclick: (event) => { event.target.disabled = true; ask(); } }, "Look at all of it")) : null;
}

/** What happened, as links to the moments. */
export function historyList(rows, current = null) {
  return el("ol", { class: "history" }, rows.map((row) => el("li", { class: row.txid === current ? "current" : "" },
    el("a", { href: link(`time/${row.txid}`, row.path), "aria-current": row.txid === current ? "true" : null }, `txid ${row.txid}`),
    ` ${{ set: "data set", acl: "ACL set" }[row.kind] || row.kind}`,
    row.version === null || row.kind === "acl" ? "" : `, version ${row.version}`, row.size === null || row.kind === "acl" ? "" : `, ${bytes(row.size)}`, ", ",
    row.time ? time(row.time) : "", el("span", { class: "by" }, row.session ? ` session ${short(row.session)}` : " the service", row.by.length ? ` ${row.by.join(", ")}` : ""))));
}

