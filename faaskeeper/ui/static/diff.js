// The difference of two texts, line by line (Myers' O(ND), bounded).

import { el } from "./dom.js";
import { hex, isNode, jsonOf, laidOut, textOf } from "./formats.js";

const MOST = 3000;

/** Rows [sign, text, number before, number after]; sign " ", "-" or "+". */
export function compared(before, after) {
  let begin = 0, endA = before.length, endB = after.length;
  while (begin < endA && begin < endB && before[begin] === after[begin]) begin++;
  while (endA > begin && endB > begin && before[endA - 1] === after[endB - 1]) { endA--; endB--; }
  const rows = [];
  const add = (sign, at, to) => rows.push([sign, sign === "+" ? after[to] : before[at], at + 1, to + 1]);
  for (let at = 0; at < begin; at++) add(" ", at, at);
  middle(before, after, begin, endA, endB, add);
  for (let at = endA; at < before.length; at++) add(" ", at, at - endA + endB);
  return rows;
}

function middle(before, after, begin, endA, endB, add) {
  const n = endA - begin, m = endB - begin;
  if (n + m > MOST) {
    for (let at = begin; at < endA; at++) add("-", at, begin);
    for (let to = begin; to < endB; to++) add("+", endA, to);
    return;
  }
  const trace = [], reach = new Map([[1, 0]]);
  search: for (let d = 0; d <= n + m; d++) {
    trace.push(new Map(reach));
    for (let k = -d; k <= d; k += 2) {
      let x = k === -d || (k !== d && (reach.get(k - 1) ?? -1) < (reach.get(k + 1) ?? -1)) ? reach.get(k + 1) : reach.get(k - 1) + 1;
      let y = x - k;
      while (x < n && y < m && before[begin + x] === after[begin + y]) { x++; y++; }
      reach.set(k, x);
      if (x >= n && y >= m) break search;
    }
  }
  const steps = [];
  let x = n, y = m;
  for (let d = trace.length - 1; d >= 0 && (x > 0 || y > 0); d--) {
    const was = trace[d], k = x - y;
    const from = k === -d || (k !== d && (was.get(k - 1) ?? -1) < (was.get(k + 1) ?? -1)) ? k + 1 : k - 1;
    const px = d === 0 ? 0 : was.get(from), py = d === 0 ? 0 : px - from;
    while (x > px && y > py) { x--; y--; steps.push([" ", x, y]); }
    if (d > 0) steps.push(x === px ? ["+", x, --y] : ["-", --x, y]);
  }
  for (const [sign, at, to] of steps.reverse()) add(sign, begin + at, begin + to);
}

/** Data as lines to compare: JSON is laid out, so that values are compared, not their layout. */
function lines(data, json) {
  const text = textOf(data);
  if (text === null) return hex(data).split("\n");
  return (json ? laidOut(jsonOf(text)) : text).split("\n");
}

const isTree = (data) => isNode(jsonOf(textOf(data)));

/** A table of what differs between two contents (bytes; null: no node). */
export function diff(before, after, names = ["before", "after"]) {
  if (before === null || after === null) {
    const gone = before === null ? names[0] : names[1];
    return el("p", { class: "hint" }, `There is no node ${gone}.`);
  }
  const json = isTree(before) && isTree(after);
  const rows = compared(lines(before, json), lines(after, json));
  if (rows.every(([sign]) => sign === " ")) {
    const same = before.length === after.length && before.every((each, at) => each === after[at]);
    return el("p", { class: "hint" }, same ? "The data is the same." : "Only the layout differs.");
  }
  const near = new Set();
  rows.forEach(([sign], at) => { if (sign !== " ") for (let each = at - 3; each <= at + 3; each++) near.add(each); });
  const shown = el("pre", { class: "data diff", tabIndex: 0, "aria-label": `Difference: - ${names[0]}, + ${names[1]}` },
    el("span", { class: "from legend" }, `- ${names[0]}\n`), el("span", { class: "to legend" }, `+ ${names[1]}\n`));
  let skipped = false;
  rows.forEach(([sign, text], at) => {
    if (!near.has(at)) { skipped = true; return; }
    if (skipped) shown.append(el("span", { class: "gap" }, "  …\n"));
    skipped = false;
    shown.append(el("span", { class: sign === "-" ? "from" : sign === "+" ? "to" : "" }, `${sign} ${text}\n`));
  });
  return shown;
}
