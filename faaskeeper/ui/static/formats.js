// What data may be, and how it is shown: text, JSON, YAML, hex, base64, Java's serialisation, protobuf.

import { el } from "./dom.js";

const LARGE = 200_000;
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }); // the mark is a part of the data

export const bytesOf = (base64) => Uint8Array.from(atob(base64), (each) => each.charCodeAt(0));

export function base64Of(data) {
  let text = "";
  for (let at = 0; at < data.length; at += 0x8000) text += String.fromCharCode(...data.subarray(at, at + 0x8000));
  return btoa(text);
}

/** The text, or null where the bytes are not UTF-8, or hold control characters. */
export function textOf(data) {
  try {
    const text = decoder.decode(data);
    return /[\0-\x08\x0e-\x1f]/.test(text) ? null : text;
  } catch {
    return null;
  }
}

/** Without the mark that some editors begin a file with. */
const bare = (text) => text.replace(/^\ufeff/, "");

const DEEPEST = 200;

/**
 * JSON as it is written, or undefined: {raw} for a scalar, {list, entries: [[key, value]]} for the rest.
 * Numbers keep their digits, objects their order and keys that are there twice: JavaScript's would not.
 */
export function jsonOf(text) {
  if (text === null || !/^\s*[[{"\d\-tfn]/.test(text)) return undefined;
  try {
    JSON.parse(bare(text)); // from here on it is right
    return new Reader(bare(text)).value(0);
  } catch {
    return undefined;
  }
}

class Reader {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  next() {
    while (" \t\n\r".includes(this.text.charAt(this.at)) && this.at < this.text.length) this.at++;
    return this.text.charAt(this.at);
  }

  value(depth) {
    const first = this.next();
    if (first !== "{" && first !== "[") return { raw: this.word() };
    if (depth > DEEPEST) throw new RangeError("this is too deep to be shown");
    const list = first === "[", entries = [];
    this.at++;
    for (;;) {
      const next = this.next();
      if (next === "}" || next === "]") { this.at++; return { list, entries }; }
      if (next === ",") { this.at++; continue; }
      const key = list ? String(entries.length) : JSON.parse(this.word());
      if (!list) { this.next(); this.at++; } // the colon
      entries.push([key, this.value(depth + 1)]);
    }
  }

  word() {
    const { text, at: from } = this;
    if (text[from] === '"') {
      let before;
      do {
        this.at = before = text.indexOf('"', this.at + 1);
        while (text[before - 1] === "\\") before--;
      } while ((this.at - before) % 2);
      this.at++;
    } else while (this.at < text.length && !",]} \t\n\r".includes(text[this.at])) this.at++;
    return text.slice(from, this.at);
  }
}

export const isTree = (value) => value !== undefined && value.entries !== undefined;

/** A scalar with the characters that its escapes stand for. */
const plainly = (raw) => (raw[0] === '"' ? JSON.stringify(JSON.parse(raw)) : raw);

/** JSON with a line for each value. `show`: how scalars are written, by default as they are. */
export function laidOut(value, show = (raw) => raw, indent = "") {
  if (!isTree(value)) return show(value.raw);
  const [open, close] = value.list ? "[]" : "{}", inner = `${indent}  `;
  if (!value.entries.length) return open + close;
  const rows = value.entries.map(([key, each]) => `${inner}${value.list ? "" : `${JSON.stringify(key)}: `}${laidOut(each, show, inner)}`);
  return `${open}\n${rows.join(",\n")}\n${indent}${close}`;
}

export const laidOutPlainly = (value) => laidOut(value, plainly);

const YAML_LINE = /^($|#|---|\.\.\.|- |-$|[\w"'./ -]+:(\s|$)|[|>]|[\w"'[{*&!])/;
const looksLikeYaml = (text) =>
  text !== null && text.length < LARGE && /^(---|[\w.-]+:(\s|$))/m.test(bare(text)) &&
  bare(text).split("\n").every((line) => YAML_LINE.test(line.trimStart()));

/** Which forms data has, the best first. */
export function formsOf(data) {
  const text = textOf(data);
  const value = jsonOf(text);
  const forms = [];
  if (isTree(value)) forms.push("JSON", "YAML");
  else if (looksLikeYaml(text)) forms.push("YAML");
  if (text !== null) forms.push("Text");
  if (isJava(data)) forms.push("Java");
  else if ((text === null || /^[\t\n\r]/.test(text)) && data.length && protobuf(data)) forms.push("Protobuf");
  forms.push("Hex", "Base64");
  return forms;
}

export function show(data, form) {
  const text = textOf(data);
  if (form === "JSON") return json(jsonOf(text));
  if (form === "YAML") return yaml(jsonOf(text), text);
  if (form === "Java") return java(data);
  if (form === "Protobuf") return proto(protobuf(data));
  if (form === "Hex") return pieces(hex(data));
  if (form === "Base64") return pieces(base64Of(data).replace(/.{1,76}/g, "$&\n"));
  return pieces(text ?? "");
}

/** Text of which the rest is shown on demand. */
function pieces(text) {
  const shown = el("pre", { class: "data", tabIndex: 0, "aria-label": "Data" }, text.slice(0, LARGE));
  if (text.length <= LARGE) return shown;
  const more = el("button", { type: "button", onclick: () => { shown.textContent = text; more.remove(); } },
    `Show all ${text.length.toLocaleString("en")} characters`);
  return el("div", {}, shown, more);
}

// ---- JSON ----------------------------------------------------------------------------------------

const KINDS = { '"': "string", t: "boolean", f: "boolean", n: "null" };

function scalar({ raw }) {
  return el("span", { class: `json-${KINDS[raw[0]] || "number"}` }, plainly(raw));
}

/** A value that folds; what is folded is made when it is opened. */
export function json(value) {
  if (!isTree(value)) return el("div", { class: "data json" }, scalar(value));
  const made = el("div", { class: "data json", tabIndex: 0, role: "group", "aria-label": "JSON" });
  made.append(folded("", value, 0, { left: _OPENED }));
  return made;
}

const _SHOWN = 200;
const _OPENED = 2000; // values that are shown without being asked for

function folded(key, { list, entries }, depth, budget) {
  const about = list ? `[ ${entries.length} ]` : `{ ${entries.length} }`;
  const label = key === "" ? [] : [el("span", { class: "json-key" }, key), ": "];
  const made = el("details", { class: "fold" }, el("summary", {}, ...label, el("span", { class: "json-size" }, about)));
  const opened = () => {
    made.removeEventListener("toggle", opened);
    const add = (from) => {
      for (const [name, each] of entries.slice(from, from + _SHOWN)) {
        made.append(isTree(each) ? folded(name, each, depth + 1, budget)
          : el("div", { class: "leaf" }, el("span", { class: "json-key" }, name), ": ", scalar(each)));
      }
      if (from + _SHOWN < entries.length) {
        const more = el("button", { type: "button", class: "quiet", onclick: () => { more.remove(); add(from + _SHOWN); } },
          `${entries.length - from - _SHOWN} more`);
        made.append(more);
      }
    };
    add(0);
  };
  if (depth < 3 && entries.length <= _SHOWN && budget.left >= entries.length) {
    budget.left -= entries.length;
    made.open = true;
    opened();
  } else made.addEventListener("toggle", opened);
  return made;
}

// ---- YAML ----------------------------------------------------------------------------------------

const PLAIN = /^[A-Za-z_./][\w ./@-]*$/;
const quoted = (text) => (PLAIN.test(text) && !/^(true|false|null|yes|no|on|off)$/i.test(text) && !text.endsWith(" ") ? text : JSON.stringify(text));

const yamlScalar = ({ raw }) => (raw[0] === '"' ? quoted(JSON.parse(raw)) : raw);

function yamlLines(value, indent = "") {
  if (!isTree(value)) return [indent + yamlScalar(value)];
  if (!value.entries.length) return [indent + (value.list ? "[]" : "{}")];
  return value.entries.flatMap(([name, each]) => {
    const key = value.list ? "-" : `${quoted(name)}:`;
    if (isTree(each) && each.entries.length) {
      const below = yamlLines(each, indent + "  ");
      if (value.list) return [indent + "- " + below[0].slice(indent.length + 2), ...below.slice(1)];
      return [indent + key, ...below];
    }
    return [`${indent}${key} ${yamlLines(each)[0]}`];
  });
}

function yaml(value, text) {
  const lines = value === undefined ? text.split("\n") : yamlLines(value);
  const shown = el("pre", { class: "data", tabIndex: 0, "aria-label": "YAML" });
  for (const line of lines.slice(0, 5000)) {
    const [, before, key, rest] = /^(\s*(?:- )*)([^#:\s][^#:]*)(:(?:\s.*)?)$/.exec(line) || [];
    if (/^\s*#/.test(line)) shown.append(el("span", { class: "comment" }, line));
    else if (key) shown.append(before, el("span", { class: "json-key" }, key), ":", el("span", { class: "json-string" }, rest.slice(1)));
    else shown.append(line);
    shown.append("\n");
  }
  if (lines.length > 5000) shown.append(`… ${lines.length - 5000} more lines: see Text`);
  return shown;
}

// ---- bytes ---------------------------------------------------------------------------------------

const two = (number) => number.toString(16).padStart(2, "0");

export function hex(data) {
  const lines = [];
  for (let at = 0; at < data.length; at += 16) {
    const row = data.subarray(at, at + 16);
    const codes = [...row].map(two);
    const left = codes.slice(0, 8).join(" "), right = codes.slice(8).join(" ");
    const text = [...row].map((each) => (each >= 0x20 && each < 0x7f ? String.fromCharCode(each) : ".")).join("");
    lines.push(`${at.toString(16).padStart(8, "0")}  ${left.padEnd(23)}  ${right.padEnd(23)}  ${text}`);
  }
  return lines.join("\n");
}

// ---- Java's serialisation: magic 0xACED, version 5 (Object Serialization Specification, 6.4) ---------

const isJava = (data) => data.length > 4 && data[0] === 0xac && data[1] === 0xed && data[2] === 0 && data[3] === 5;

function strings(data, least = 4) {
  const found = [];
  let text = "";
  for (const each of [...data, 0]) {
    if (each >= 0x20 && each < 0x7f) text += String.fromCharCode(each);
    else {
      if (text.length >= least) found.push(text);
      text = "";
    }
  }
  return found;
}

/** Classes: each descriptor is 0x72, a length of two bytes and the name. */
function classes(data) {
  const found = [];
  for (let at = 4; at + 3 < data.length; at++) {
    if (data[at] !== 0x72) continue;
    const length = data[at + 1] * 256 + data[at + 2];
    if (length > 300) continue;
    const name = String.fromCharCode(...data.subarray(at + 3, at + 3 + length));
    if (name.length === length && /^\[*[A-Za-z_$][\w$.;/]*$/.test(name)) found.push(name);
  }
  return [...new Set(found)];
}

function java(data) {
  const named = classes(data), texts = strings(data).filter((each) => !named.includes(each)).slice(0, 100);
  return el("div", { class: "data about" },
    el("p", {}, el("strong", {}, "Java-serialised object"), `, ${data.length} bytes. It is not deserialised here: only names and texts are read.`),
    named.length ? el("p", {}, "Classes: ", el("code", {}, named.join(", "))) : null,
    texts.length ? [el("p", {}, "Texts:"), el("ul", {}, texts.map((each) => el("li", {}, el("code", {}, each))))] : null);
}

// ---- protobuf: the wire format without a schema -----------------------------------------------------

function varint(data, at) {
  let value = 0n, shift = 0n;
  for (; at < data.length && shift < 70n; shift += 7n) {
    const each = data[at++];
    value |= BigInt(each & 0x7f) << shift;
    if (each < 0x80) return [value, at];
  }
  return null;
}

/** Fields [number, kind, value], or null if the bytes are no message. */
export function protobuf(data, depth = 0) {
  const fields = [];
  let at = 0;
  while (at < data.length) {
    const key = varint(data, at);
    if (!key) return null;
    const number = Number(key[0] >> 3n), kind = Number(key[0] & 7n);
    at = key[1];
    if (!number || number > 536870911 || fields.length > 2000) return null;
    if (kind === 0) {
      const value = varint(data, at);
      if (!value) return null;
      fields.push([number, "number", String(value[0])]);
      at = value[1];
    } else if (kind === 1 || kind === 5) {
      const size = kind === 1 ? 8 : 4;
      if (at + size > data.length) return null;
      const view = new DataView(data.buffer, data.byteOffset + at, size);
      const [whole, broken] = kind === 1 ? [view.getBigUint64(0, true), view.getFloat64(0, true)] : [view.getUint32(0, true), view.getFloat32(0, true)];
      fields.push([number, kind === 1 ? "64 bits" : "32 bits", `${whole}, or ${broken}`]);
      at += size;
    } else if (kind === 2) {
      const length = varint(data, at);
      if (!length || Number(length[0]) > data.length - length[1]) return null;
      at = length[1];
      const part = data.subarray(at, at + Number(length[0]));
      at += part.length;
      const text = textOf(part);
      const below = depth < 8 && part.length && (text === null || !/^[\x20-\x7e\s]*$/.test(text)) ? protobuf(part, depth + 1) : null;
      if (below) fields.push([number, "message", below]);
      else fields.push([number, text === null ? "bytes" : "text", text ?? hex(part).slice(0, 400)]);
    } else return null;
  }
  return fields;
}

function proto(fields) {
  const list = (some) => el("ul", { class: "proto" }, some.map(([number, kind, value]) => el("li", {},
    el("span", { class: "json-key" }, `${number}`), ` (${kind}): `, kind === "message" ? list(value) : el("code", {}, value))));
  return el("div", { class: "data about" },
    el("p", {}, "This looks like a protobuf message. Without its schema, fields have numbers and no names."), list(fields || []));
}
