// A tree by the ARIA pattern, of which only the rows in sight are in the document: a parent with
// 100,000 children scrolls like one with ten. The tree has the focus; the active row is named by
// aria-activedescendant, so no row has to stay in the document for it.

import { childOf, compare, el, nameOf, note, parentOf, replace, unique, within } from "./dom.js";

const HEIGHT = 28;
const BEYOND = 10;
const TOGETHER = 100;
const ADDRESS = 16000; // characters of names in an address: servers bound what they take
const FRESH_MS = 1500;

/** The place of a name in sorted names; where it would be, if it is not there: -1 - place. */
function placeOf(names, name) {
  let low = 0, high = names.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (compare(names[middle], name) < 0) low = middle + 1;
    else high = middle;
  }
  return names[low] === name ? low : -1 - low;
}

/** Take a child that came or went into the sorted names. */
function put(names, { path, kind }) {
  const at = placeOf(names, nameOf(path));
  if (kind === "created" && at < 0) names.splice(-1 - at, 0, nameOf(path));
  else if (kind === "deleted" && at >= 0) names.splice(at, 1);
}

export class Tree {
  /** source: {children(path) → names, rows(path, names) → {name: {children, kind, size}}}. */
  constructor(label, source, onSelect) {
    this.source = source;
    this.onSelect = onSelect;
    this.names = new Map(); // of opened paths
    this.coming = new Map(); // by path whose names are being read: what has happened below it meanwhile
    this.open = new Set(["/"]);
    this.about = new Map();
    this.asked = new Set();
    this.changed = new Map();
    this.rows = [];
    this.painted = new Map(); // by path: {element, look}
    this.active = "/";
    this.selected = "/";
    this.word = "";
    this.id = unique("row");
    this.sizer = el("div", { class: "tree-rows", role: "none" });
    this.element = el("div", {
      class: "tree", role: "tree", tabIndex: 0, "aria-label": label,
      onscroll: () => this.paint(), onkeydown: (event) => this.key(event),
      onclick: (event) => this.click(event), ondblclick: (event) => this.toggle(this.pathAt(event)),
    }, this.sizer);
    new ResizeObserver(() => this.paint()).observe(this.element);
    this.flatten();
  }

  // ---- what there is ---------------------------------------------------------------------------

  async load(path) {
    const late = [];
    this.coming.set(path, late); // a read that was begun before counts no more
    try {
      const names = await this.source.children(path);
      if (this.coming.get(path) !== late) return;
      for (const event of late) put(names, event);
      this.names.set(path, names);
    } catch (error) {
      if (this.coming.get(path) !== late) return;
      this.names.delete(path);
      if (error.status === 404 || error.status === 403) this.open.delete(path);
      if (error.status === 403) note(error.message, "bad");
      if (path === "/") this.failed = error.message;
    }
    this.coming.delete(path);
    this.later();
  }

  /** Read everything again that is shown. */
  async reload() {
    this.about.clear();
    this.asked.clear();
    this.failed = "";
    await Promise.all([...this.open].map((path) => this.load(path)));
  }

  async expand(path) {
    if (this.open.has(path) && this.names.has(path)) return;
    this.open.add(path);
    await this.load(path);
  }

  collapse(path) {
    this.open.delete(path);
    if (within(this.active, path)) this.active = path;
    this.later();
  }

  toggle(path) {
    if (path === null) return;
    if (this.open.has(path)) this.collapse(path);
    else if (this.has(path) || !this.about.has(path)) this.expand(path);
  }

  has(path) {
    const about = this.about.get(path);
    return path === "/" || (this.names.get(path) || []).length > 0 || Boolean(about && about.children);
  }

  /** Open everything above a path, and show it. */
  async reveal(path) {
    if (path === this.active && this.indexOf(path) >= 0) { // chosen here: what is in sight stays
      this.selected = path;
      this.paint();
      return;
    }
    const above = [];
    for (let each = path; each !== "/"; each = parentOf(each)) above.unshift(parentOf(each));
    for (const each of above) await this.expand(each);
    this.active = this.selected = path;
    this.flatten();
    this.intoView();
    this.paint();
  }

  /** Take in events. */
  take(events) {
    const now = performance.now();
    for (const [path, at] of this.changed) if (now - at > FRESH_MS) this.changed.delete(path);
    for (const event of events) {
      const { path, kind } = event, parent = parentOf(path);
      this.changed.set(path, now);
      if (path !== "/" && (kind === "created" || kind === "deleted")) {
        const names = this.names.get(parent);
        if (names) put(names, event);
        this.coming.get(parent)?.push(event);
        this.forget(parent);
      }
      this.forget(path);
      if (kind === "deleted") {
        this.names.delete(path);
        this.open.delete(path);
        this.about.delete(path);
      }
    }
    this.later();
  }

  forget(path) {
    this.asked.delete(path); // what was known is shown until it is read anew
  }

  // ---- rows ------------------------------------------------------------------------------------

  later() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.flatten();
      this.paint();
    });
  }

  flatten() {
    const rows = [];
    const add = (path, name, level, pos, size) => {
      rows.push({ path, name, level, pos, size });
      const names = this.open.has(path) ? this.names.get(path) : null;
      if (names) for (let at = 0; at < names.length; at++) add(childOf(path, names[at]), names[at], level + 1, at + 1, names.length);
    };
    add("/", "/", 1, 1, 1);
    this.rows = rows;
    this.sizer.style.height = `${rows.length * HEIGHT}px`;
    const at = this.indexOf(this.active);
    if (at < 0) this.active = parentOf(this.active);
  }

  indexOf(path) {
    return this.rows.findIndex((row) => row.path === path);
  }

  paint() {
    const top = this.element.scrollTop, height = this.element.clientHeight || 400;
    const from = Math.max(Math.floor(top / HEIGHT) - BEYOND, 0);
    const to = Math.min(Math.ceil((top + height) / HEIGHT) + BEYOND, this.rows.length);
    const painted = new Map();
    let active = false;
    for (let at = from; at < to; at++) {
      const row = this.rows[at];
      active ||= row.path === this.active;
      painted.set(row.path, this.row(row, at));
    }
    // Elements stay while their row does: a click or the screen reader that is at one is not cut off.
    for (const [path, { element }] of this.painted) if (!painted.has(path)) element.remove();
    let before = null;
    for (const { element } of painted.values()) {
      const place = before ? before.nextSibling : this.sizer.firstChild;
      if (place !== element) this.sizer.insertBefore(element, place);
      before = element;
    }
    this.painted = painted;
    this.sizer.querySelector(".tree-failed")?.remove();
    if (this.failed && this.rows.length === 1) this.sizer.append(el("p", { class: "hint tree-failed" }, this.failed));
    if (active) this.element.setAttribute("aria-activedescendant", `${this.id}-active`);
    else this.element.removeAttribute("aria-activedescendant");
    this.ask(this.rows.slice(from, to));
  }

  /** The element of a row, which is the one of before where there was one. */
  row({ path, name, level, pos, size }, at) {
    const about = this.about.get(path), has = this.has(path), open = this.open.has(path);
    const fresh = performance.now() - (this.changed.get(path) ?? -10000) < FRESH_MS;
    const before = this.painted.get(path), element = before ? before.element : el("div", { role: "treeitem", "data-path": path });
    element.style.top = `${at * HEIGHT}px`;
    const look = [level, pos, size, has, open, fresh, about && about.kind, about && about.children, path === this.active, path === this.selected].join(" ");
    if (before && before.look === look) return before;
    element.style.paddingLeft = `${(level - 1) * 16 + 4}px`;
    element.className = `row${path === this.active ? " active" : ""}${path === this.selected ? " selected" : ""}${fresh ? " fresh" : ""}`;
    const set = (attribute, value) => (value === null ? element.removeAttribute(attribute) : element.setAttribute(attribute, value));
    set("id", path === this.active ? `${this.id}-active` : null);
    set("aria-level", level);
    set("aria-posinset", pos);
    set("aria-setsize", size);
    set("aria-selected", path === this.selected);
    set("aria-expanded", has ? open : null);
    const kind = about ? about.kind : "persistent";
    replace(element,
      el("span", { class: `twisty${has ? (open ? " open" : " closed") : ""}`, "aria-hidden": "true" }),
      el("span", { class: `kind ${kind}`, title: kind, "aria-hidden": "true" }),
      el("span", { class: "name", title: name }, name),
      kind === "persistent" ? null : el("span", { class: "visually-hidden" }, `, ${kind}`),
      about && about.children ? el("span", { class: "number" }, about.children.toLocaleString("en"), el("span", { class: "visually-hidden" }, " children")) : null);
    return { element, look };
  }

  /** Ask what is known of rows in sight. */
  ask(rows) {
    const wanted = new Map();
    for (const { path, name } of rows) {
      if (this.asked.has(path) || path === "/") continue;
      this.asked.add(path);
      const parent = parentOf(path);
      wanted.set(parent, [...(wanted.get(parent) || []), name]);
    }
    for (const [parent, names] of wanted) {
      let some = [], size = 0;
      for (const name of names) {
        some.push(name);
        size += encodeURIComponent(name).length;
        if (some.length < TOGETHER && size < ADDRESS) continue;
        this.askFor(parent, some);
        some = [];
        size = 0;
      }
      if (some.length) this.askFor(parent, some);
    }
  }

  async askFor(parent, names) {
    try {
      const found = await this.source.rows(parent, names);
      for (const [name, about] of Object.entries(found)) this.about.set(childOf(parent, name), about);
      this.later();
    } catch {
      for (const name of names) this.asked.delete(childOf(parent, name));
    }
  }

  // ---- pointing and keys -----------------------------------------------------------------------

  pathAt(event) {
    const row = event.target.closest(".row");
    return row ? row.dataset.path : null;
  }

  click(event) {
    const path = this.pathAt(event);
    if (path === null) return;
    if (event.target.closest(".twisty")) {
      this.toggle(path);
      return;
    }
    this.go(path);
    this.onSelect(path);
  }

  go(path) {
    this.active = path;
    this.intoView();
    this.paint();
  }

  intoView() {
    const at = this.indexOf(this.active) * HEIGHT;
    const { scrollTop, clientHeight } = this.element;
    if (at < scrollTop) this.element.scrollTop = at;
    else if (at + HEIGHT > scrollTop + clientHeight) this.element.scrollTop = at + HEIGHT - clientHeight;
  }

  select() {
    clearTimeout(this.soon);
    this.soon = setTimeout(() => this.onSelect(this.active), 120);
  }

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const at = this.indexOf(this.active), page = Math.max(Math.floor(this.element.clientHeight / HEIGHT) - 1, 1);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: this.rows.length - 1, PageDown: at + page, PageUp: at - page }[event.key];
    const row = this.rows[at];
    if (to !== undefined) this.move(to);
    else if (event.key === "ArrowRight") {
      if (!this.open.has(row.path)) { if (this.has(row.path)) this.expand(row.path); }
      else if (this.rows[at + 1] && this.rows[at + 1].level > row.level) this.move(at + 1);
    } else if (event.key === "ArrowLeft") {
      if (this.open.has(row.path) && row.path !== "/") this.collapse(row.path);
      else this.move(this.indexOf(parentOf(row.path)));
    } else if (event.key === "Enter" || event.key === " ") this.onSelect(this.active, true);
    else if (event.key.length === 1 && !"/?".includes(event.key)) this.typed(event.key, at);
    else return;
    event.preventDefault();
  }

  move(at) {
    const row = this.rows[Math.min(Math.max(at, 0), this.rows.length - 1)];
    if (row) { this.go(row.path); this.select(); }
  }

  typed(letter, at) {
    clearTimeout(this.forgetting);
    this.word += letter.toLowerCase();
    this.forgetting = setTimeout(() => { this.word = ""; }, 700);
    const from = this.word.length === 1 ? at + 1 : at;
    for (let step = 0; step < this.rows.length; step++) {
      const row = (from + step) % this.rows.length;
      if (this.rows[row].name.toLowerCase().startsWith(this.word)) { this.move(row); return; }
    }
  }
}
