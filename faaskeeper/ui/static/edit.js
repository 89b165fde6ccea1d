// Changing nodes: each change names the version that was shown, and can be staged instead of made.

import { send } from "./api.js";
import { check, childOf, dialog, el, field, link, nameOf, note, parentOf, replace } from "./dom.js";
import { diff } from "./diff.js";
import { base64Of, bytesOf, jsonOf, laidOut, textOf } from "./formats.js";
import { staged } from "./staged.js";

const MOST = 1 << 20;
const encoder = new TextEncoder();

/** Do something that may fail; the error is shown at the place. */
async function attempt(shown, action) {
  shown.textContent = "";
  try {
    await action();
    return true;
  } catch (error) {
    shown.textContent = error.message;
    return false;
  }
}

const errorLine = () => el("p", { class: "error", role: "alert" });

// ---- data ----------------------------------------------------------------------------------------

/** Editors with text that is not saved, by path: whoever looks at another node finds it again. */
export const drafts = new Map();

/** The one kind of line end that a text has, or null: a field of text would make several alike. */
function lineEnd(text) {
  const ends = new Set(text.match(/\r\n|\r|\n/g));
  return ends.size > 1 ? null : [...ends, "\n"][0];
}

/** Edits data as text, or in base64 where it is none that a field can hold as it is. */
export class Editor {
  constructor(node, leave) {
    this.node = node;
    this.leave = leave;
    this.base = bytesOf(node.data);
    this.version = node.stat.version;
    const text = textOf(this.base);
    this.end = text === null ? null : lineEnd(text);
    this.binary = this.end === null;
    this.input = el("textarea", {
      class: "editor", spellcheck: false, value: this.binary ? base64Of(this.base) : text,
      oninput: () => drafts.set(node.path, this),
      onkeydown: (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.save(); },
    });
    this.input.rows = Math.min(Math.max(this.input.value.split("\n").length + 1, 5), 28);
    this.error = errorLine();
    this.about = el("div", { role: "status" });
    const label = !this.binary ? "Data" : text === null ? "Data in base64" : "Data in base64, since its lines end in several ways";
    this.element = el("div", {}, field(label, this.input), this.about, this.error,
      el("div", { class: "actions" },
        el("button", { type: "button", class: "primary", onclick: () => this.save() }, "Save"),
        el("button", { type: "button", onclick: () => this.stage() }, "Stage"),
        this.binary || jsonOf(text) === undefined ? null : el("button", { type: "button", onclick: () => this.layOut() }, "Format"),
        el("button", { type: "button", class: "quiet", onclick: () => this.done() }, "Cancel")));
  }

  /** Lay out the JSON that is edited. */
  layOut() {
    const value = jsonOf(this.input.value);
    this.error.textContent = value === undefined ? "This is not JSON." : "";
    if (value === undefined) return;
    this.input.value = laidOut(value);
    drafts.set(this.node.path, this);
    this.input.rows = Math.min(this.input.value.split("\n").length + 1, 28);
  }

  focus() {
    this.input.focus();
  }

  done() {
    drafts.delete(this.node.path);
    this.leave(this);
  }

  /** The node is shown again, after others were: as it is now, or null if it is gone. */
  again(node, leave) {
    this.leave = leave;
    if (!node || node.stat.version !== this.version) this.changed({ kind: node ? "changed" : "deleted" });
  }

  data() {
    if (!this.binary) return encoder.encode(this.input.value.replaceAll("\n", this.end));
    try {
      return bytesOf(this.input.value.replace(/\s/g, ""));
    } catch {
      throw new Error("this is not base64");
    }
  }

  /** Somebody changed the node while it is edited. */
  changed(event) {
    if (event.txid && String(event.txid) === this.saved) return;
    const what = event.kind === "deleted" ? "deleted this node" : "changed this node";
    replace(this.about, el("p", { class: "warning" }, `Somebody ${what} while you edit it. Saving shows the difference first.`));
  }

  async save() {
    const data = await this.checked();
    if (data === null) return;
    try {
      const { stat } = await send("PUT", "node", { path: this.node.path, version: this.version }, data);
      this.saved = stat.mzxid;
      note(`Saved ${this.node.path}, version ${stat.version}.`);
      this.done();
    } catch (error) {
      if (error.kind === "bad version") this.conflict(data, error.more.theirs);
      else this.error.textContent = error.message;
    }
  }

  async checked() {
    let data = null;
    await attempt(this.error, async () => {
      data = this.data();
      if (data.length > MOST) throw new Error(`a node holds at most ${MOST} bytes, not ${data.length}`);
    });
    return this.error.textContent ? null : data;
  }

  conflict(mine, theirs) {
    if (!theirs || theirs.data === null) {
      this.error.textContent = "The node was deleted meanwhile: copy your text, and create it again.";
      return;
    }
    const other = bytesOf(theirs.data);
    replace(this.about, el("div", { class: "conflict" },
      el("h3", {}, "Somebody else was faster"),
      el("p", {}, `The node has version ${theirs.stat.version} now; you edited version ${this.version}. Nothing was saved.`),
      el("h4", {}, "From theirs to yours"), diff(other, mine, ["theirs", "yours"]),
      el("details", {}, el("summary", {}, "What they changed"), diff(this.base, other, ["before", "theirs"])),
      el("div", { class: "actions" },
        el("button", { type: "button", class: "danger", onclick: () => { this.onto(theirs); this.save(); } }, "Save mine over theirs"),
        el("button", { type: "button", onclick: () => this.onto(theirs) }, "Keep editing mine"),
        el("button", { type: "button", onclick: () => this.done() }, "Take theirs"))));
    this.about.querySelector("button").focus();
  }

  onto(theirs) {
    this.version = theirs.stat.version;
    this.base = bytesOf(theirs.data);
    replace(this.about);
    this.input.focus();
  }

  async stage() {
    const data = await this.checked();
    if (data === null) return;
    staged.add({ op: "set", path: this.node.path, data: base64Of(data), version: this.version });
    this.done();
  }
}

export function uploadTo(node, done) {
  const input = el("input", { type: "file" });
  input.addEventListener("change", async () => {
    const [chosen] = input.files;
    if (!chosen) return;
    if (chosen.size > MOST) { note(`${chosen.name} has ${chosen.size} bytes; a node holds at most ${MOST}.`, "bad"); return; }
    const data = new Uint8Array(await chosen.arrayBuffer());
    const error = errorLine();
    const before = node.data === null ? null : bytesOf(node.data);
    const shown = dialog(`Upload to ${node.path}`, el("p", {}, `${chosen.name}: ${data.length} bytes, in place of version ${node.stat.version}.`),
      before ? diff(before, data, ["now", "file"]) : null, error,
      el("div", { class: "actions" },
        el("button", { type: "button", class: "primary", onclick: () => attempt(error, async () => {
          const { stat } = await send("PUT", "node", { path: node.path, version: node.stat.version }, data);
          note(`Saved ${node.path}, version ${stat.version}.`);
          shown.close();
          done();
        }) }, "Save"),
        el("button", { type: "button", onclick: () => { staged.add({ op: "set", path: node.path, data: base64Of(data), version: node.stat.version }); shown.close(); } }, "Stage")));
  });
  input.className = "visually-hidden";
  input.setAttribute("aria-label", "File to upload");
  input.addEventListener("cancel", () => input.remove());
  input.addEventListener("change", () => input.remove());
  document.body.append(input);
  input.click();
}

// ---- create, delete, ACL ---------------------------------------------------------------------------

export function createDialog(parent, name = "") {
  const input = el("input", { type: "text", value: name, autocomplete: "off", spellcheck: false });
  const data = el("textarea", { rows: 5, spellcheck: false });
  const kind = el("select", {}, ["persistent", "ephemeral", "container", "ttl"].map((each) => el("option", { value: each }, {
    persistent: "persistent", ephemeral: "ephemeral: ends with this page's server", container: "container: deleted after its last child", ttl: "with a time to live",
  }[each])));
  const ttl = el("input", { type: "number", min: 1, value: 60000 });
  const ttlField = field("Time to live, ms", ttl);
  ttlField.hidden = true;
  kind.addEventListener("change", () => { ttlField.hidden = kind.value !== "ttl"; });
  const sequential = check("with a number at the end of its name (sequential)");
  const acl = el("input", { type: "text", placeholder: "world:anyone:cdrwa", spellcheck: false });
  const error = errorLine();
  const step = () => {
    if (!input.value && !sequential.input.checked) throw new Error("give the node a name");
    return {
      op: "create", path: childOf(parent, input.value), data: base64Of(encoder.encode(data.value)), acl: acl.value,
      ephemeral: kind.value === "ephemeral", container: kind.value === "container",
      ttl: kind.value === "ttl" ? Number(ttl.value) : null, sequential: sequential.input.checked,
    };
  };
  const form = el("form", { onsubmit: (event) => {
    event.preventDefault();
    attempt(error, async () => {
      const { path } = await send("POST", "node", {}, step());
      note(`Created ${path}.`);
      shown.close();
      location.hash = link("tree", path);
    });
  } }, field(`Name, below ${parent}`, input), field("Data", data), field("Kind", kind), ttlField, sequential.shown,
  field("ACL", acl, "SCHEME:ID:PERMISSIONS, separated by commas. Empty: everybody may do everything."), error,
  el("div", { class: "actions" }, el("button", { type: "submit", class: "primary" }, "Create"),
    el("button", { type: "button", onclick: () => attempt(error, async () => { staged.add(step()); shown.close(); }) }, "Stage")));
  const shown = dialog("New node", form);
  input.focus();
}

export function deleteDialog(path, node = null) {
  if (path === "/") return;
  const error = errorLine();
  const version = node ? node.stat.version : -1;
  const shown = dialog(`Delete ${nameOf(path)}?`,
    el("p", {}, el("code", {}, path), node ? `, version ${version}, is deleted with its data.` : " is deleted with its data.", " Its past stays in the log for as long as that is kept."), error,
    el("div", { class: "actions" },
      el("button", { type: "button", class: "danger", onclick: () => attempt(error, async () => {
        await send("DELETE", "node", { path, version });
        note(`Deleted ${path}.`);
        shown.close();
        location.hash = link("tree", parentOf(path));
      }) }, "Delete"),
      el("button", { type: "button", onclick: () => { staged.add({ op: "delete", path, version }); shown.close(); } }, "Stage"),
      el("button", { type: "button", class: "quiet", onclick: () => shown.close() }, "Cancel")));
}

export function aclDialog(node, done) {
  const input = el("textarea", { rows: 5, spellcheck: false, value: node.acl.map(([text]) => text).join(",\n") });
  const error = errorLine();
  const form = el("form", { onsubmit: (event) => {
    event.preventDefault();
    attempt(error, async () => {
      await send("PUT", "acl", { path: node.path, version: node.stat.aversion }, { acl: input.value.replace(/\s/g, "").replace(/,$/, "") });
      note(`The ACL of ${node.path} is set.`);
      shown.close();
      done();
    });
  } }, field("Entries", input, "SCHEME:ID:PERMISSIONS, separated by commas; permissions: c create, d delete, r read, w write, a admin. "
    + "'fk digest USER:PASSWORD' makes an id of the scheme digest."), error,
  el("div", { class: "actions" }, el("button", { type: "submit", class: "primary" }, "Set the ACL")));
  const shown = dialog(`ACL of ${node.path}`, form);
}
