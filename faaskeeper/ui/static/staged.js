// Changes that are staged, to be made by one transaction: all of them, or none.

import { send } from "./api.js";
import { dialog, el, note, pathLink, replace } from "./dom.js";
import { diff } from "./diff.js";
import { bytesOf } from "./formats.js";

const EMPTY = new Uint8Array();

class Staged {
  constructor() {
    this.steps = [];
    this.shown = null;
  }

  button(element) {
    this.element = element;
    element.addEventListener("click", () => this.open());
  }

  add(step) {
    this.steps.push(step);
    this.count();
    note(`Staged: ${step.op} ${step.path}.`);
  }

  count() {
    this.element.hidden = !this.steps.length;
    this.element.textContent = `Staged (${this.steps.length})`;
  }

  async open() {
    const body = el("div");
    const shown = dialog("Staged changes", el("p", { class: "hint" }, "One transaction makes them in this order: all of them, or none."), body);
    shown.classList.add("wide");
    await this.render(shown, body);
  }

  async render(shown, body, failed = "") {
    if (!this.steps.length) { shown.close(); return; }
    let previews = [];
    try {
      ({ steps: previews } = await send("POST", "transaction/preview", {}, { steps: this.steps }));
    } catch (error) {
      failed ||= error.message;
    }
    const again = (message = "") => { this.count(); return this.render(shown, body, message); };
    const items = this.steps.map((step, at) => el("li", { class: "card" },
      el("div", { class: "step" }, el("strong", {}, step.op), " ", pathLink(step.path), step.version >= 0 ? ` (version ${step.version})` : "",
        el("span", { class: "grow" }),
        el("button", { type: "button", class: "quiet", disabled: at === 0, "aria-label": `Move ${step.op} ${step.path} up`,
          onclick: () => { this.steps.splice(at - 1, 0, ...this.steps.splice(at, 1)); again(); } }, "↑"),
        el("button", { type: "button", class: "quiet", "aria-label": `Remove ${step.op} ${step.path}`,
          onclick: () => { this.steps.splice(at, 1); again(); } }, "×")),
      this.preview(step, previews[at])));
    const problem = previews.some((each) => each.problem);
    replace(body, el("ol", { class: "steps" }, items), failed ? el("p", { class: "error", role: "alert" }, failed) : null,
      problem ? el("p", { class: "warning" }, "As things are now, the transaction would fail.") : null,
      el("div", { class: "actions" },
        el("button", { type: "button", class: "primary", onclick: () => this.commit(shown, again) }, "Commit all"),
        el("button", { type: "button", onclick: () => { this.steps.push({ op: "check", path: this.steps[0].path, version: -1 }); again(); } }, "Add a check"),
        el("button", { type: "button", class: "danger", onclick: () => { this.steps = []; again(); } }, "Discard all")));
  }

  preview(step, found) {
    if (!found) return null;
    if (found.problem) return el("p", { class: "error" }, found.problem);
    if (step.op === "check") return el("p", { class: "hint" }, "The node is there, with this version: else nothing is done.");
    const before = found.now && found.now.data !== null ? bytesOf(found.now.data) : EMPTY;
    if (step.op === "delete") return el("p", { class: "hint" }, `${before.length} bytes are deleted.`);
    const after = step.data ? bytesOf(step.data) : EMPTY;
    if (step.op === "set") return diff(before, after, ["now", "then"]);
    const kind = step.ephemeral ? "ephemeral" : step.container ? "container" : step.ttl ? `deleted after ${step.ttl} ms without a change` : "persistent";
    return el("div", {}, el("p", { class: "hint" }, `${kind}${step.sequential ? ", with a number at the end of its name" : ""}, ACL ${step.acl || "world:anyone:cdrwa"}`),
      after.length ? diff(EMPTY, after, ["nothing", "then"]) : el("p", { class: "hint" }, "No data."));
  }

  async commit(shown, again) {
    try {
      const { paths } = await send("POST", "transaction", {}, { steps: this.steps });
      note(`Committed: ${this.steps.length} changes${paths.length ? `, ${paths.join(", ")}` : ""}.`);
      this.steps = [];
      this.count();
      shown.close();
    } catch (error) {
      await again(error.message);
    }
  }
}

export const staged = new Staged();
