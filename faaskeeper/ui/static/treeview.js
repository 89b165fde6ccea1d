// The view of the tree as it is now: the tree, and one node.

import { get } from "./api.js";
import { el, link } from "./dom.js";
import { createDialog, deleteDialog } from "./edit.js";
import { NodePane } from "./node.js";
import { search } from "./search.js";
import { Tree } from "./tree.js";

export function treeView(me) {
  const source = {
    children: async (path) => (await get("children", { path })).names,
    rows: (path, name) => get("rows", { path, name }),
  };
  const tree = new Tree("Nodes", source, (path, enter) => {
    if (location.hash !== link("tree", path)) location.hash = link("tree", path);
    if (enter) pane.focus();
  });
  const pane = new NodePane(me);
  const found = search(tree.element);
  const left = el("section", { class: "left", "aria-label": "Tree" }, found.bar, found.found, tree.element);
  const element = el("div", { class: "split" }, el("h1", { class: "visually-hidden" }, "Tree"), left, pane.element);
  tree.element.addEventListener("keydown", (event) => {
    if (event.key === "/") found.input.focus();
    else if (me.read_only) return;
    else if (event.key === "F2") pane.edit();
    else if (event.key === "Insert") createDialog(tree.active);
    else if (event.key === "Delete") deleteDialog(tree.active, pane.path === tree.active ? pane.node : null);
    else return;
    event.preventDefault();
  });
  tree.reload();

  return {
    element,
    async show(path) {
      element.classList.toggle("has-node", location.hash.length > 7);
      pane.show(path);
      await tree.reveal(path);
    },
    events(events) {
      tree.take(events);
      pane.take(events);
    },
    reset() {
      tree.reload();
      pane.refresh();
    },
    close: () => pane.close(),
  };
}
