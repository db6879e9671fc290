"use strict";
// Everything here is a convenience: without it the page shows the same, LaTeX and rows included.
(() => {
  const all = (what, from = document) => [...from.querySelectorAll(what)];
  const button = (words, act) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = words;
    made.addEventListener("click", () => act(made));
    return made;
  };
  const copy = async (text) => {
    try { await navigator.clipboard.writeText(text); return true; } catch { /* no leave: by hand */ }
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  };
  for (const place of all("details.tex")) {
    const tex = place.querySelector("pre").textContent;
    place.before(button("copy LaTeX", async (made) => {
      made.textContent = (await copy(tex)) ? "copied" : "not copied: open the LaTeX below";
    }));
  }
  for (const section of all("section")) {
    const folds = all("details.fold", section);
    if (folds.length > 1) {
      folds[0].before(button("open all", (made) => {
        const open = made.textContent === "open all";
        for (const fold of folds) fold.open = open;
        made.textContent = open ? "fold all" : "open all";
      }));
    }
  }
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let up = target; up; up = up.parentElement) if (up.tagName === "DETAILS") up.open = true;
    if (target) target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();
  addEventListener("beforeprint", () => { for (const fold of all("details")) fold.open = true; });
  const field = document.getElementById("search");
  if (field) {
    const rows = all("[data-search]"), said = document.getElementById("found");
    field.closest(".search").hidden = false;
    const filter = () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let found = 0;
      for (const row of rows) {
        row.hidden = !words.every((word) => row.dataset.search.includes(word));
        found += !row.hidden;
      }
      said.textContent = `${found} of ${rows.length} models`;
    };
    field.addEventListener("input", filter);
    filter();
  }
})();
