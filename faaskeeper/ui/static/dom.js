// Making elements, and words for times and sizes. Text is only ever set as text.

const SVG = "http://www.w3.org/2000/svg";

function fill(made, properties, children) {
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.setAttribute("class", value);
    else if (name in made && !name.includes("-") && made.namespaceURI !== SVG && name !== "list") made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((each) => each !== null && each !== undefined && each !== false));
  return made;
}

/** An element: el("p", {class: "x", onclick: f}, "text", other). */
export const el = (tag, properties, ...children) =>
  fill(document.createElement(tag), properties, children);

/** An element of a picture. */
export const svg = (tag, properties, ...children) =>
  fill(document.createElementNS(SVG, tag), properties, children);

let made = 0;
/** An id that no other element has. */
export const unique = (name) => `${name}-${++made}`;

export function replace(parent, ...children) {
  parent.replaceChildren(...children.flat().filter((each) => each !== null && each !== undefined && each !== false));
}

const UNITS = [["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

/** "3 minutes ago". */
export function ago(ms, now = Date.now()) {
  const seconds = Math.round((ms - now) / 1000);
  if (Math.abs(seconds) < 2) return "just now";
  const [unit, size] = UNITS.find(([, size]) => Math.abs(seconds) >= size) || UNITS.at(-1);
  return relative.format(Math.round(seconds / size), unit);
}

/** A time in words, that says the exact one and stays right as time passes. */
export function time(ms) {
  const at = new Date(ms);
  return el("time", { dateTime: at.toISOString(), title: full(ms), "data-ms": ms }, ago(ms));
}

export const full = (ms) => new Date(ms).toLocaleString("sv") + "." + String(Math.floor(ms % 1000)).padStart(3, "0");

setInterval(() => {
  if (document.hidden) return;
  for (const each of document.querySelectorAll("time[data-ms]")) {
    const text = ago(Number(each.dataset.ms));
    if (each.textContent !== text) each.textContent = text;
  }
}, 1000);

export function bytes(number) {
  if (number < 1024) return `${number} B`;
  for (const unit of ["KB", "MB", "GB"]) {
    number /= 1024;
    if (number < 1024 || unit === "GB") return `${number.toPrecision(3)} ${unit}`;
  }
  return "";
}

export const count = (number, one, many = one + "s") => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

/** A session's id as people read it. */
export const short = (session) => session.replace(/^0+(?=.)/, "");

// ---- paths -----------------------------------------------------------------------------------

export const parentOf = (path) => path.slice(0, path.lastIndexOf("/")) || "/";
export const nameOf = (path) => path.slice(path.lastIndexOf("/") + 1);
export const childOf = (path, name) => (path === "/" ? "/" : path + "/") + name;
export const within = (path, above) => above === "/" || path === above || path.startsWith(above + "/");

/** Where a path is shown: "#/tree/app/config". */
export function link(view, path) {
  return `#/${view}${path.split("/").map(encodeURIComponent).join("/")}`;
}

export function pathLink(path, view = "tree", text = path) {
  return el("a", { href: link(view, path), class: "path" }, text);
}

/** The server's order of names: by code points, all of which have one unit in a path. */
export const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

// ---- notes and dialogs -------------------------------------------------------------------------

/** Say something that has happened. */
export function note(text, kind = "") {
  const shown = el("p", { class: `note ${kind}` }, text,
    el("button", { type: "button", class: "quiet", "aria-label": "Dismiss", onclick: () => shown.remove() }, "×"));
  document.getElementById("notes").append(shown);
  setTimeout(() => shown.remove(), kind === "bad" ? 15000 : 6000);
}

/** A modal dialog with a heading; returns it, shown. What had the focus gets it back. */
export function dialog(title, ...children) {
  const heading = unique("dialog");
  const shown = el("dialog", { "aria-labelledby": heading, onclose: () => shown.remove() },
    el("div", { class: "dialog-top" }, el("h2", { id: heading }, title),
      el("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: () => shown.close() }, "×")),
    ...children);
  document.body.append(shown);
  shown.showModal();
  return shown;
}

/** A labelled field. */
export function field(label, input, hint) {
  input.id ||= unique("field");
  const about = hint ? el("p", { class: "hint", id: unique("hint") }, hint) : null;
  if (about) input.setAttribute("aria-describedby", about.id);
  return el("div", { class: "field" }, el("label", { htmlFor: input.id }, label), input, about);
}

export function check(label, checked = false) {
  const input = el("input", { type: "checkbox", checked });
  return { input, shown: el("label", { class: "check" }, input, label) };
}
