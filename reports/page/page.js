"use strict";
// Everything from the results goes in as text, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

function make(tag, words, ...children) {
  const element = document.createElement(tag);
  if (words) element.textContent = words;
  element.append(...children);
  return element;
}

function numbers(at) {
  const parts = at.groups.flatMap((group) => {
    const rows = group.rows.map(([name, value]) => {
      const head = make("th", name);
      head.scope = "row";
      return make("tr", "", head, make("td", value));
    });
    return [make("table", "", make("caption", group.title), make("tbody", "", ...rows))];
  });
  byId("numbers").replaceChildren(...parts);
}

const SIGNS = { recommended: "✓", admissible: "✓", rejected: "✗" };

function profiles(at) {
  const parts = at.profiles.map((profile) => {
    const status = make("span", `${SIGNS[profile.status] || "?"} ${profile.status}`);
    status.className = "status";
    const block = make("div", "", make("h4", `For the purpose “${profile.name}”`), status);
    block.className = profile.status;
    block.append(make("ul", "", ...profile.lines.map((line) => make("li", line))));
    return block;
  });
  byId("profiles").replaceChildren(make("h3", "Verdict at this σ"), ...parts);
}

function maps() {
  if (!data.images.length) return;
  const image = data.images[Number(byId("image").value)];
  const at = data.sigmas[Number(byId("sigma").value)];
  const view = image.views[Number(byId("sigma").value)];
  byId("predicted").textContent = `predicted: ${image.predicted}`;
  const pictures = {
    clean: [image.image, `Image ${image.name}`],
    perturbed: [view.perturbed, `Attacked image, changed by at most ${view.epsilon} of 255`],
    before: [view.before, `Map before the attack at ${at.label}`],
    after: [view.after, `Map after the attack at ${at.label}, overlap ${view.overlap}`],
  };
  for (const [id, [source, words]] of Object.entries(pictures)) {
    byId(id).src = source;
    byId(id).alt = words;
  }
  byId("caption").textContent =
    `At ${at.label}, an attack of ε = ${view.epsilon}/255 leaves ${view.overlap} of the top k. ` +
    `One color scale: white is 0, the darkest blue ${view.top} map units.`;
}

function chart(place, wanted) {
  const layout = {
    title: { text: wanted.title, font: { size: 14 }, x: 0, xref: "paper" },
    height: 380,
    margin: { l: 45, r: 10, t: 40, b: 110 },
    xaxis: {
      title: { text: "smoothing σ (pixel units)" },
      tickvals: wanted.ticks.map((_, i) => i),
      ticktext: wanted.ticks,
      range: [-0.5, wanted.ticks.length - 0.5],
    },
    yaxis: wanted.unit ? { range: [0, 1.02] } : { rangemode: "tozero" },
    legend: { orientation: "h", y: -0.25 },
    font: { family: "system-ui, sans-serif", size: 12 },
  };
  Plotly.newPlot(place, wanted.traces, layout, { responsive: true, displaylogo: false });
  place.setAttribute("role", "img");
  const values = wanted.traces.map(
    (t) => `${t.name}: ${t.y.map((y, i) => `${y.toPrecision(3)} at ${wanted.ticks[t.x[i]]}`).join(", ")}`,
  );
  place.setAttribute("aria-label", `Chart: ${wanted.title}. ${values.join("; ")}`);
}

function mark(place, sigma) {
  const line = { type: "rect", x0: sigma - 0.4, x1: sigma + 0.4, y0: 0, y1: 1, yref: "paper" };
  Plotly.relayout(place, {
    shapes: [{ ...line, fillcolor: "#808080", opacity: 0.2, line: { width: 0 }, layer: "below" }],
  });
}

function move() {
  const slider = byId("sigma");
  const at = data.sigmas[Number(slider.value)];
  byId("sigma-label").textContent = `${at.label} (${at.units})`;
  slider.setAttribute("aria-valuetext", `${at.label}, ${at.units}`);
  numbers(at);
  profiles(at);
  maps();
  for (const place of byId("charts").children) mark(place, Number(slider.value));
}

// Numbers as the page writes them: 1,230, −0.4, 1.2×10⁻⁷, 71%, "0.42 (0.40 to 0.44, n = 31)".
function numeric(words) {
  const found = words.match(/^[^\d−-]{0,10}([−-]?[\d,]*\.?\d+)(?:×10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?/);
  if (!found) return null;
  const power = [...(found[2] || "⁰")].map((c) => (c === "⁻" ? "-" : "⁰¹²³⁴⁵⁶⁷⁸⁹".indexOf(c))).join("");
  return Number(found[1].replaceAll(",", "").replace("−", "-")) * 10 ** Number(power);
}

function sort(button) {
  const head = button.closest("th");
  const up = head.getAttribute("aria-sort") !== "ascending";
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const column = [...head.parentNode.children].indexOf(head);
  const body = button.closest("table").tBodies[0];
  const rows = [...body.rows].map((row) => [row.cells[column].textContent, row]);
  const plain = rows.every(([words]) => words === "–" || numeric(words) !== null);
  rows.sort(([a], [b]) => {
    if (a === "–" || b === "–") return (a === "–") - (b === "–"); // what is missing comes last
    const order = plain ? numeric(a) - numeric(b) : a.localeCompare(b, "en");
    return up ? order : -order;
  });
  body.append(...rows.map(([, row]) => row));
}

function start() {
  const slider = byId("sigma");
  slider.max = data.sigmas.length - 1;
  slider.value = data.focus;
  slider.addEventListener("input", move);
  data.images.forEach((image, i) => {
    const option = make("option", image.name);
    option.value = i;
    byId("image").append(option);
  });
  byId("image").addEventListener("change", maps);
  byId("swipe").addEventListener("input", (event) =>
    event.target.parentNode.querySelector(".swipe").style.setProperty("--cut", `${event.target.value}%`),
  );
  if (!data.images.length) {
    byId("maps").replaceChildren(make("p", "No maps: this result carries no pictures (maps.npz)."));
  }
  const drawn = data.charts.filter((c) => c.traces.length);
  const where = drawn.map(() => make("div"));
  byId("charts").append(...where); // all of them first: a chart takes the width it finds
  drawn.forEach((wanted, i) => chart(where[i], wanted));
  for (const button of document.querySelectorAll("table.sortable th button")) {
    button.addEventListener("click", () => sort(button));
  }
  move();
}

start();
