// Reads values off the figures. The page is complete without it: what it shows is in the figures'
// CSV files, and nothing that the page says depends on it.
(() => {
  "use strict";
  const SVG = "http://www.w3.org/2000/svg";
  const make = (name, attributes = {}, text = "") => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== "") element.textContent = text;
    return element;
  };
  const shape = (name, attributes) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const short = value => {
    if (value === null) return "–";
    const digits = Math.abs(value) >= 99.95 ? 0 : Math.abs(value) >= 9.995 ? 1 : Math.abs(value) >= 0.9995 ? 2 : 3;
    return value.toLocaleString("en", { minimumFractionDigits: 0, maximumFractionDigits: digits }).replace(/,/g, "\u202f");
  };
  const swatch = variant => `swatch v${variant % 6} m${variant % 5}`;
  const hidden = new Set();
  const plots = [...document.querySelectorAll("svg[data-plot]")].map(svg => {
    const data = JSON.parse(svg.dataset.plot);
    const [left, top, right, bottom] = data.f;
    const box = svg.viewBox.baseVal;
    // A browser shows an SVG's title as a tooltip, on top of the values; its name stays in the label.
    svg.querySelector("title")?.remove();
    const before = shape("rect", { class: "outside", x: left, y: top, width: 0, height: bottom - top });
    const after = shape("rect", { class: "outside", x: right, y: top, width: 0, height: bottom - top });
    const cross = shape("line", { class: "cross", x1: 0, x2: 0, y1: top, y2: bottom, visibility: "hidden" });
    svg.append(before, after, cross);
    const tip = make("div", { class: "tip", hidden: "" });
    svg.parentElement.append(tip);
    svg.setAttribute("tabindex", "0");
    const plot = { svg, data, before, after, cross, tip, left, right, width: box.width, index: -1 };
    plot.time = data.end !== null;
    plot.at = x => left + x * (right - left);
    return plot;
  });
  const timed = plots.filter(plot => plot.time);
  const status = make("p", { class: "unseen", role: "status" });
  document.body.append(status);

  // Values under the pointer, and a line at the same time in every other plot over time.
  const visible = plot => plot.data.s.filter(series => !hidden.has(series.v));
  const nearest = (plot, x) => {
    let best = -1;
    plot.data.x.forEach((place, i) => {
      if (best < 0 || Math.abs(place - x) < Math.abs(plot.data.x[best] - x)) best = i;
    });
    return best;
  };
  const clear = () => plots.forEach(plot => {
    plot.tip.hidden = true;
    plot.cross.setAttribute("visibility", "hidden");
    plot.index = -1;
  });
  const stand = (plot, x) => {
    const at = plot.at(x);
    plot.cross.setAttribute("x1", at);
    plot.cross.setAttribute("x2", at);
    plot.cross.setAttribute("visibility", "visible");
  };
  const show = (plot, index) => {
    clear();
    if (index < 0 || index >= plot.data.x.length) return;
    const x = plot.data.x[index];
    (plot.time ? timed : [plot]).forEach(other => stand(other, x));
    plot.index = index;
    const lines = visible(plot).map(s => [s.n, `${short(s.y[index])} ${s.u}`, s.v]);
    plot.tip.replaceChildren(make("b", {}, plot.data.l[index]));
    for (const [name, value, place] of lines) {
      const row = make("span");
      row.append(make("i", { class: swatch(place) }), `${name} ${value}`);
      plot.tip.append(row);
    }
    plot.tip.hidden = false;
    const share = plot.at(x) / plot.width;
    plot.tip.style.left = share < 0.5 ? `${share * 100 + 2}%` : "auto";
    plot.tip.style.right = share < 0.5 ? "auto" : `${100 - share * 100 + 2}%`;
  };
  const place = (plot, event) => {
    const box = plot.svg.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * plot.width;
    return Math.min(1, Math.max(0, (x - plot.left) / (plot.right - plot.left)));
  };

  // A range of time, chosen by dragging in any plot over time or with the two fields.
  const range = { from: 0, to: Infinity };
  const end = Math.max(0, ...timed.map(plot => plot.data.end));
  const whole = () => range.from <= 0 && range.to >= end;
  const summary = figure => {
    figure.querySelector(".chosen")?.remove();
    if (whole()) return;
    const table = make("table");
    const head = table.createTHead().insertRow();
    ["in the chosen time", "lowest", "mean", "highest"].forEach(text => head.append(make("th", { scope: "col" }, text)));
    const body = table.createTBody();
    for (const plot of timed.filter(p => figure.contains(p.svg))) {
      for (const series of visible(plot)) {
        const values = series.y.filter((y, i) => {
          const s = plot.data.x[i] * plot.data.end;
          return y !== null && s >= range.from && s <= range.to;
        });
        const row = body.insertRow();
        const variant = names.get(series.v) ?? "";
        row.append(make("th", { scope: "row" }, `${variant}, ${series.n}, ${series.u}`));
        const mean = values.reduce((sum, y) => sum + y, 0) / values.length;
        const known = values.length > 0;
        [Math.min(...values), mean, Math.max(...values)].forEach(v => row.append(make("td", {}, known ? short(v) : "–")));
      }
    }
    const box = make("div", { class: "table chosen", tabindex: "0", role: "region", "aria-label": "Values in the chosen time" });
    box.append(table);
    figure.append(box);
  };
  const choose = (from, to) => {
    range.from = Math.max(0, Math.min(from, to));
    range.to = Math.min(end, Math.max(from, to));
    for (const plot of timed) {
      const share = s => Math.min(1, s / plot.data.end);
      const [a, b] = [plot.at(share(range.from)), plot.at(share(range.to))];
      plot.before.setAttribute("width", a - plot.left);
      plot.after.setAttribute("x", b);
      plot.after.setAttribute("width", Math.max(0, plot.right - b));
    }
    if (fields) [fields.from.value, fields.to.value] = [short(range.from), short(range.to)].map(v => v.replace(/\u202f/g, ""));
    new Set(timed.map(plot => plot.svg.closest("figure"))).forEach(summary);
    status.textContent = whole() ? "The whole run" : `From ${short(range.from)} to ${short(range.to)} s`;
  };

  for (const plot of plots) {
    let start = null;
    plot.svg.addEventListener("pointermove", event => {
      const x = place(plot, event);
      show(plot, nearest(plot, x));
      if (start !== null && Math.abs(x - start) > 0.02) choose(start * plot.data.end, x * plot.data.end);
    });
    plot.svg.addEventListener("pointerleave", clear);
    plot.svg.addEventListener("blur", clear);
    plot.svg.addEventListener("keydown", event => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.key === "Escape") clear();
      if (!step) return;
      event.preventDefault();
      const last = plot.data.x.length - 1;
      show(plot, Math.min(last, Math.max(0, plot.index < 0 ? (step > 0 ? 0 : last) : plot.index + step)));
      status.textContent = [...plot.tip.childNodes].map(node => node.textContent).join("; ");
    });
    if (plot.time) {
      plot.svg.addEventListener("pointerdown", event => {
        // A finger scrolls the page; a mouse or a pen chooses.
        if (event.pointerType === "touch" || event.button !== 0) return;
        start = place(plot, event);
        event.preventDefault();
        plot.svg.setPointerCapture(event.pointerId);
      });
      plot.svg.addEventListener("pointerup", event => {
        if (start !== null && Math.abs(place(plot, event) - start) <= 0.02) choose(0, end);
        start = null;
      });
      plot.svg.addEventListener("pointercancel", () => { start = null; });
    }
  }

  // The controls stand before the first figure.
  const names = new Map([...document.querySelectorAll("[data-name]")].map(e => [Number(e.dataset.variant), e.dataset.name]));
  const figures = document.querySelector("#figures > h2");
  let fields = null;
  if (!figures || plots.length === 0) return;
  const controls = make("form", { class: "controls", "aria-label": "What the figures show" });
  controls.addEventListener("submit", event => event.preventDefault());
  if (names.size > 1) {
    const set = make("fieldset");
    set.append(make("legend", {}, "Show"));
    for (const [variant, name] of names) {
      const label = make("label");
      const box = make("input", { type: "checkbox", checked: "" });
      box.addEventListener("change", () => {
        if (box.checked) hidden.delete(variant); else hidden.add(variant);
        document.querySelectorAll(`#figures [data-v="${variant}"]`).forEach(e => {
          (e.closest(".drawing") && e.tagName === "svg" ? e.parentElement : e).classList.toggle("away", !box.checked);
        });
        choose(range.from, range.to);
      });
      label.append(box, make("i", { class: swatch(variant) }), name);
      set.append(label);
    }
    controls.append(set);
  }
  if (timed.length > 0) {
    const set = make("fieldset");
    set.append(make("legend", {}, "Time, s"));
    const field = (text, value) => {
      const label = make("label", {}, `${text} `);
      const input = make("input", { type: "number", min: 0, max: end, step: "any", value });
      label.append(input);
      set.append(label);
      return input;
    };
    fields = { from: field("from", 0), to: field("to", end) };
    const changed = () => choose(Number(fields.from.value), Number(fields.to.value));
    fields.from.addEventListener("change", changed);
    fields.to.addEventListener("change", changed);
    const all = make("button", { type: "button" }, "Whole run");
    all.addEventListener("click", () => choose(0, end));
    set.append(all);
    controls.append(set);
  }
  figures.after(controls, make("p", { class: "note hint" }, "Point at a figure, or go to it with the keyboard and use the arrow keys, to read its values. Drag in a figure over time to choose a range."));
})();
