// The flow of one write through writer, log, distributor and watch, as a picture that explains itself.

import { el, svg, unique } from "./dom.js";

const STAGES = [
  ["client", "Client", "asks", 70, 120, "The client numbers its requests, signs them and sends them through the worker queue. It sends a request again until it has the answer: a queue may lose, repeat and reorder."],
  ["writer", "Writer", "decides", 250, 120, "The writer, a cloud function, takes all that waits, checks versions, ACLs and sessions against what it knows of the tree, and makes one batch of transactions of it."],
  ["log", "Log", "commits", 430, 120, "One conditional put appends the batch to the log. If another writer was faster, the put fails and the batch is decided anew: there is one order of all writes, and no lock."],
  ["distributor", "Distributor", "applies", 610, 120, "The distributor puts the new records into user storage, where clients read them without asking any server, and raises the mark: up to it, everything is there."],
  ["watch", "Watch", "tells", 790, 120, "Whoever watches a changed path is notified, after the record can be read. The client's rules put events and reads into one order: no stale read, no event before its data."],
];

export function flow() {
  const title = unique("flow"), about = unique("about");
  const words = el("p", { class: "flow-words", role: "status" }, "Point at a stage, or go through them with the Tab key. Each change that happens runs through the picture.");
  const boxes = new Map();
  const arrow = (from, to, label, y = 120, below = false) => [
    svg("line", { x1: from, y1: y, x2: to, y2: y, class: "wire", "marker-end": "url(#head)" }),
    svg("text", { x: (from + to) / 2, y: below ? y + 16 : y - 8, class: "small" }, label)];
  const picture = svg("svg", { class: "flow", viewBox: "0 0 860 250", role: "group", "aria-labelledby": `${title} ${about}` },
    svg("title", { id: title }, "The flow of one write"),
    svg("desc", { id: about }, "A client's request goes to the writer, which appends it to the log; the distributor puts records into user storage and watchers are told. Clients read user storage themselves."),
    svg("defs", {}, svg("marker", { id: "head", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" }, svg("path", { d: "M0 0 L8 4 L0 8 z", class: "head" }))),
    arrow(125, 195, "queue"), arrow(305, 375, "append"), arrow(485, 555, "batch"), arrow(665, 735, "fired"),
    svg("path", { d: "M610 152 V205 H120 Q70 205 70 156", class: "wire dashed", "marker-end": "url(#head)" }),
    svg("text", { x: 340, y: 222, class: "small" }, "user storage: clients read it themselves; the answer names the transaction"),
    svg("path", { d: "M790 88 V40 H70 V84", class: "wire dashed", "marker-end": "url(#head)" }),
    svg("text", { x: 430, y: 32, class: "small" }, "notification"),
    STAGES.map(([key, name, verb, x, y, text], at) => {
      const show = () => { words.textContent = `${at + 1}. ${name}: ${text}`; };
      const box = svg("g", { class: "stage", tabindex: 0, role: "img", "aria-label": `${at + 1}. ${name} ${verb}: ${text}`, onfocus: show, onmouseenter: show },
        svg("rect", { x: x - 55, y: y - 32, width: 110, height: 64, rx: 9 }),
        svg("text", { x, y: y - 4, class: "stage-name" }, name), svg("text", { x, y: y + 16, class: "small" }, `${at + 1}. ${verb}`));
      boxes.set(key, box);
      return box;
    }));

  let running = false;
  function pulse() {
    if (running) return;
    running = true;
    [...boxes.values()].forEach((box, at) => setTimeout(() => {
      box.classList.add("lit");
      setTimeout(() => box.classList.remove("lit"), 500);
    }, at * 220));
    setTimeout(() => { running = false; }, 1700);
  }

  return { element: el("figure", { class: "card flowcard" }, el("div", { class: "scrolls", tabIndex: 0, role: "region", "aria-label": "Picture of the flow" }, picture), el("figcaption", {}, words)), pulse };
}
