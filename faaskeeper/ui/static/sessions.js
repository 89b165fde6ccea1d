// Sessions, what they hold, and who waits behind whom.

import { get, send } from "./api.js";
import { count, dialog, el, field, note, pathLink, replace, short, time } from "./dom.js";

const EVERY_MS = 3000;
const SOON_MS = 500; // after something has happened, and never more often

/** The contenders of a lock (or another recipe), in order. */
export function contenders(rows) {
  let before = null;
  return el("ol", { class: "contenders" }, rows.map((row) => {
    const item = el("li", { class: row.role },
      el("span", { class: `role ${row.role}` }, row.role),
      el("span", {}, row.session ? `session ${short(row.session)}` : "no session"), " ",
      row.identifier ? el("code", {}, row.identifier.slice(0, 80)) : null, " ",
      row.role === "waits" && before ? el("span", { class: "hint" }, `behind ${before}, `) : null,
      el("span", { class: "hint" }, "came ", time(row.since), `, token ${row.token}`, lease(row.lease_s), row.identities.length ? `, ${row.identities.join(", ")}` : ""), " ",
      pathLink(row.node, "tree", "node"));
    if (row.role === "holds" || row.role === "waits") before = row.session ? `session ${short(row.session)}` : row.node;
    return item;
  }));
}

const lease = (seconds) => (seconds === undefined ? "" : seconds > 0 ? `, lease ${Math.round(seconds)} s` : ", lease over");

export function sessionsView(me) {
  const table = el("div"), locks = el("div");
  const element = el("div", { class: "wideview" }, el("h1", {}, "Sessions and locks"), el("h2", {}, "Locks, elections and other recipes"), locks, el("h2", {}, "Sessions"), table);
  let timer = 0, open = true, asking = false, soon = false;

  /** One look at a time, again and again. */
  async function refresh() {
    if (!open || asking) return;
    if (document.hidden) { at(EVERY_MS); return; }
    asking = true;
    soon = false;
    try {
      await look();
    } finally {
      asking = false;
      at(soon ? SOON_MS : EVERY_MS);
    }
  }

  function at(ms) {
    clearTimeout(timer);
    if (open) timer = setTimeout(refresh, ms);
  }

  /** Something has happened: look soon, however much happens until then. */
  function later() {
    if (soon) return;
    soon = true;
    if (!asking) at(SOON_MS);
  }

  async function look() {
    const missing = me.missing.sessions && new Error(me.missing.sessions);
    const [some, held] = await Promise.all([missing || get("sessions").catch((error) => error), get("locks").catch((error) => error)]);
    if (!open) return;
    const focused = element.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    replace(table, some instanceof Error ? el("p", { class: missing ? "hint" : "error" }, some.message) : sessionTable(some));
    replace(locks, held instanceof Error ? el("p", { class: "hint" }, held.message) : lockList(held));
    if (focused) { const again = element.querySelector(`[data-key="${focused}"]`); if (again) again.focus(); }
  }

  function lockList({ locks: found, more }) {
    if (!found.length) return el("p", { class: "hint" }, "Nobody holds anything: no ephemeral has the name of a recipe of this library, of kazoo or of Curator.");
    return el("div", { class: "cards" }, found.map(({ path, rows }) => el("section", { class: "card" },
      el("h3", {}, pathLink(path)), el("p", { class: "hint" }, [...new Set(rows.map((row) => row.recipe))].join(", ")), contenders(rows))),
    more ? el("p", { class: "hint" }, `${count(more, "place")} more`) : null);
  }

  function sessionTable({ sessions, complete, may_end_others: may }) {
    const rows = sessions.map((row) => el("tr", {},
      el("th", { scope: "row" }, el("code", {}, short(row.session)), row.mine ? el("span", { class: "badge" }, "this page") : null),
      el("td", {}, row.lease_s === undefined ? (row.server ? `with server ${short(row.server)}` : "–") : leaseBar(row)),
      el("td", {}, row.timeout_s ? `${row.timeout_s} s` : "–"),
      el("td", {}, row.ephemerals.length ? el("ul", { class: "chips" }, row.ephemerals.map((path) => el("li", {}, pathLink(path))),
        row.held > row.ephemerals.length ? el("li", { class: "hint" }, `${row.held - row.ephemerals.length} more`) : null) : el("span", { class: "hint" }, complete ? "nothing" : "not known")),
      el("td", {}, row.address ? el("code", {}, row.address.slice(0, 40)) : "–"),
      me.read_only ? null : el("td", {}, may || row.mine ? el("button", { type: "button", class: "danger", "data-key": `end-${row.session}`, onclick: () => endDialog(row, later) }, "End …") : null)));
    const heads = ["Session", "Lease left", "Time-out", "Holds (ephemerals)", "Answers go to", ...(me.read_only ? [] : ["Action"])];
    return el("div", {},
      el("div", { class: "scrolls", tabIndex: 0, role: "region", "aria-label": "Sessions" }, el("table", {}, el("thead", {}, el("tr", {}, heads.map((each) => el("th", { scope: "col" }, each)))), el("tbody", {}, rows))),
      may || me.read_only ? null : el("p", { class: "hint" }, "Only the super user may end other sessions: start the page with --auth USER:PASSWORD of the super user."));
  }

  function leaseBar({ lease_s: left, timeout_s: whole }) {
    const share = Math.min(Math.max(left / (whole || 30), 0), 1);
    const bar = el("span", { class: `bar${share < 0.34 ? " low" : ""}` }, el("span", {}));
    bar.firstChild.style.width = `${share * 100}%`;
    return el("span", { class: "lease" }, bar, left > 0 ? `${left.toFixed(0)} s` : "over: is being closed");
  }

  refresh();
  return { element, show() {}, events: later, reset: later, close() { open = false; clearTimeout(timer); } };
}

/** Ends a session, after asking twice: that it is meant, and which one. */
function endDialog(row, done) {
  const shown = dialog(`End session ${short(row.session)}?`,
    el("p", {}, row.held ? `Its ${count(row.held, "ephemeral")} will be deleted: locks that it holds are free then, and its client is told that the session is over.`
      : "It holds nothing. Its client is told that the session is over."),
    row.ephemerals.length ? el("ul", { class: "chips" }, row.ephemerals.map((path) => el("li", {}, el("code", {}, path)))) : null,
    row.mine ? el("p", { class: "warning" }, "This is the session of this page: a new one is opened for it.") : null,
    el("div", { class: "actions" },
      el("button", { type: "button", class: "danger", onclick: () => { shown.close(); again(row, done); } }, "End it …"),
      el("button", { type: "button", class: "quiet", onclick: () => shown.close() }, "Cancel")));
}

function again(row, done) {
  const id = short(row.session);
  const input = el("input", { type: "text", autocomplete: "off", spellcheck: false });
  const error = el("p", { class: "error", role: "alert" });
  const shown = dialog("Are you sure?", el("form", { onsubmit: async (event) => {
    event.preventDefault();
    if (short(input.value.trim()) !== id) { error.textContent = `Type ${id} to end this session.`; return; }
    try {
      const { ended } = await send("POST", "sessions/end", {}, { session: row.session, again: row.session });
      note(ended ? `Session ${id} has ended.` : `Session ${id} was over already.`);
      shown.close();
      done();
    } catch (failed) {
      error.textContent = failed.message;
    }
  } }, field(`Type the session's id, ${id}, to end it`, input), error,
  el("div", { class: "actions" }, el("button", { type: "submit", class: "danger" }, "End the session"),
    el("button", { type: "button", class: "quiet", onclick: () => shown.close() }, "Cancel"))));
  input.focus();
}
