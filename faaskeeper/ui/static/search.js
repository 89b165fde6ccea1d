// Search as somebody types, over paths and data.

import { lines } from "./api.js";
import { el, link, replace, unique } from "./dom.js";

/** The field and its results; while there is a query, the results stand in place of `below`. */
export function search(below, view = () => "tree", placeholder = "Search paths") {
  let asking = null, timer = 0;
  const about = el("p", { class: "hint", role: "status" });
  const list = el("ul", { class: "results", "aria-label": "Found" });
  const found = el("div", { class: "found", hidden: true }, about, list);
  const id = unique("search");
  const input = el("input", {
    type: "search", id, placeholder, autocomplete: "off", spellcheck: false,
    oninput: () => later(), onkeydown: (event) => key(event),
  });
  const withData = el("input", { type: "checkbox", onchange: () => later(0) });

  function later(delay = 150) {
    clearTimeout(timer);
    if (asking) asking.abort();
    timer = setTimeout(run, delay);
  }

  async function run() {
    const query = input.value;
    found.hidden = !query;
    below.hidden = Boolean(query);
    replace(list);
    if (!query) return;
    asking = new AbortController();
    about.textContent = "Searching …";
    let number = 0;
    try {
      for await (const each of lines("search", { q: query, data: withData.checked ? 1 : 0 }, asking.signal)) {
        if (each.done) {
          const what = each.more ? `${each.found} found, the first ${number} are shown` : `${number} found`;
          about.textContent = each.error || `${what}, in ${each.cut ? "the first " : ""}${each.looked.toLocaleString("en")} nodes.`;
        } else {
          number++;
          list.append(result(each, query));
        }
      }
    } catch (error) {
      if (error.name !== "AbortError") about.textContent = error.message;
    }
  }

  function result({ path, line }, query) {
    return el("li", {}, el("a", { href: link(view(), path), onkeydown: (event) => arrows(event) },
      el("span", { class: "path" }, ...marked(path, line ? "" : query)),
      line ? el("span", { class: "line" }, ...marked(line, query)) : null));
  }

  function marked(text, query) {
    const at = query ? text.toLowerCase().indexOf(query.toLowerCase()) : -1;
    if (at < 0) return [text];
    return [text.slice(0, at), el("mark", {}, text.slice(at, at + query.length)), text.slice(at + query.length)];
  }

  function key(event) {
    if (event.key === "Escape") { input.value = ""; run(); }
    else if (event.key === "ArrowDown") focusOn(list.querySelector("a"), event);
    else if (event.key === "Enter") { const first = list.querySelector("a"); if (first) location.hash = first.hash; }
  }

  function arrows(event) {
    const item = event.target.closest("li");
    if (event.key === "ArrowDown") focusOn(item.nextElementSibling && item.nextElementSibling.firstChild, event);
    else if (event.key === "ArrowUp") focusOn(item.previousElementSibling ? item.previousElementSibling.firstChild : input, event);
    else if (event.key === "Escape") { focusOn(input, event); input.value = ""; run(); }
  }

  function focusOn(element, event) {
    if (!element) return;
    event.preventDefault();
    element.focus();
  }

  const bar = el("div", { class: "search" },
    el("label", { htmlFor: id, class: "visually-hidden" }, "Search"), input,
    el("label", { class: "check" }, withData, "data, too"));
  return { bar, found, input };
}
