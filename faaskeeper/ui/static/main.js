// The page: its views, the address, the connection, and what holds everywhere.

import { belongsTo, get, logout, Stream } from "./api.js";
import { dialog, el, note, replace } from "./dom.js";
import { drafts } from "./edit.js";
import { serviceView } from "./service.js";
import { sessionsView } from "./sessions.js";
import { staged } from "./staged.js";
import { timeView } from "./time.js";
import { treeView } from "./treeview.js";

const main = document.getElementById("main");
const live = document.getElementById("live");
const page = { me: null, view: null, name: "" };

const VIEWS = { tree: treeView, time: timeView, sessions: sessionsView, service: serviceView };

/** The address: {view, at, path}. A path that is not encoded right is shown as it is. */
export function address() {
  const words = location.hash.replace(/^#\/?/, "").split("/");
  const view = Object.hasOwn(VIEWS, words[0]) ? words.shift() : "tree";
  const at = view === "time" ? words.shift() || "now" : "";
  const decoded = words.map((each) => { try { return decodeURIComponent(each); } catch { return each; } });
  return { view, at, path: "/" + decoded.filter(Boolean).join("/") };
}

function route() {
  const { view, at, path } = address();
  if (view !== page.name) {
    if (page.view && page.view.close) page.view.close();
    page.name = view;
    page.view = VIEWS[view](page.me);
    replace(main, page.view.element);
    for (const each of document.querySelectorAll("nav a")) {
      if (each.dataset.view === view) each.setAttribute("aria-current", "page");
      else each.removeAttribute("aria-current");
    }
  }
  page.view.show(path, at);
  const titles = { tree: path, time: `${path} then`, sessions: "Sessions", service: "Service" };
  document.title = `${titles[view]} · ${page.me.deployment} · FaaSKeeper`;
  for (const each of document.querySelectorAll("nav a")) {
    if (each.dataset.view === "tree") each.href = view === "tree" ? location.hash : each.href;
  }
}

function state(name, why) {
  const text = { live: "live", away: "reconnecting", down: "no connection" }[name];
  live.className = `live ${name}`;
  if (live.textContent !== text) live.textContent = text;
  live.title = why;
}

function help() {
  const keys = [
    ["↑ ↓ ← →, Home, End, PageUp, PageDown", "move in the tree, open and close nodes"],
    ["letters", "in the tree: the next node whose name begins with them"],
    ["Enter", "in the tree: go to the node's data"],
    ["/", "in the tree: search"],
    ["F2, Insert, Delete", "in the tree: edit the data, create below, delete"],
    ["Ctrl+Enter", "in a field of data: save"],
    ["Escape", "close a dialog, end a search"],
    ["← →", "on the slider of time: one transaction back or on"],
  ];
  dialog("Keys", el("table", { class: "keys" }, el("tbody", {}, keys.map(([key, what]) =>
    el("tr", {}, el("th", { scope: "row" }, key), el("td", {}, what))))));
}

async function begin() {
  page.me = await get("me");
  belongsTo(page.me.page);
  document.getElementById("deployment").textContent =
    page.me.provider === "local" ? page.me.directory.split("/").filter(Boolean).slice(-2).join("/") || page.me.deployment : page.me.deployment;
  document.getElementById("deployment").title = `${page.me.provider} ${page.me.directory || page.me.deployment}, session ${page.me.session}`;
  document.getElementById("mode").hidden = !page.me.read_only;
  const out = document.getElementById("logout");
  out.hidden = !page.me.login;
  out.addEventListener("click", async () => { await logout(); location.replace("/login"); });
  document.getElementById("help").addEventListener("click", help);
  document.querySelector(".skip").addEventListener("click", (event) => { // its address would be taken for a node's
    event.preventDefault();
    main.focus();
  });
  if (!page.me.read_only) staged.button(document.getElementById("staged"));
  const stream = new Stream({
    state,
    batch: (events) => page.view && page.view.events && page.view.events(events),
    reset: () => page.view && page.view.reset && page.view.reset(),
    other: (why) => { state("down", why); note(why, "bad"); },
  });
  await Promise.race([stream.ready, new Promise((done) => setTimeout(done, 3000))]);
  window.addEventListener("hashchange", route);
  window.addEventListener("beforeunload", (event) => { if (drafts.size || staged.steps.length) event.preventDefault(); });
  route();
}

begin().catch((error) => {
  state("down", error.message);
  note(error.message, "bad");
  setTimeout(() => location.reload(), 3000);
});
