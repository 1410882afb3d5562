// Live charts of one container: cpu, memory, network. The same figures stand in a table for those who cannot see a chart.
import { bytes, percent } from "./format.js";
import { on, watch } from "./page.js";

const KEEP = 120; // seconds, and samples: one each second
const ROWS = 10; // of the table, newest first
const panel = document.getElementById("charts");
const rate = (value) => `${bytes(value)}/s`;

/** A token of the theme as a colour that a canvas understands: custom properties may hold light-dark() and the like. */
function colour(token) {
  const probe = document.createElement("span");
  probe.className = "visually-hidden";
  document.body.append(probe);
  probe.style.color = `var(${token})`;
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

/** Ticks at 0 and at whole steps of what is measured: 1024 for bytes. */
function steps(base) {
  return (_chart, _axis, low, high) => {
    const power = base ** Math.floor(Math.log(Math.max(high, 1e-9)) / Math.log(base));
    let step = power;
    for (const share of [1 / 50, 1 / 20, 1 / 10, 1 / 5, 1 / 4, 1 / 2, 1, 2, 4, 5, 10, 20, 50, 100, 200]) {
      if ((high / (power * share)) <= 4) {
        step = power * share;
        break;
      }
    }
    const marks = [];
    for (let mark = low; mark <= high; mark += step) marks.push(mark);
    return marks;
  };
}

function make(element, count, format, floor, base) {
  const [text, grid, ...inks] = ["--slipway-muted", "--tblr-border-color", "--tblr-primary", "--tblr-orange"].map(colour);
  const font = `11px ${getComputedStyle(document.body).fontFamily}`;
  const axis = { stroke: text, font, grid: { stroke: grid, width: 1 }, ticks: { show: false } };
  const clock = (_chart, times) => times.map((time) => new Date(time * 1000).toLocaleTimeString(document.documentElement.lang, { hour12: false }));
  const line = (i) => ({ stroke: inks[i], width: 2, points: { show: false } });
  return new uPlot(
    {
      width: element.clientWidth,
      height: element.clientHeight,
      legend: { show: false },
      cursor: { show: false },
      padding: [8, 8, 0, 0],
      scales: { x: { time: true, range: () => [Date.now() / 1000 - KEEP, Date.now() / 1000] }, y: { range: (_chart, _low, high) => [0, Math.max((high ?? 0) * 1.1, floor)] } },
      axes: [
        { ...axis, space: 90, size: 22, incrs: [5, 10, 15, 30, 60], grid: { show: false }, values: clock },
        { ...axis, size: 68, splits: steps(base), values: (_chart, values) => values.map(format) },
      ],
      series: [{}, ...Array.from({ length: count }, (_item, i) => line(i))],
    },
    [[], ...Array.from({ length: count }, () => [])],
    element,
  );
}

if (panel) {
  const id = panel.dataset.id;
  const limit = Number(panel.dataset.limit);
  const data = []; // [time s, cpu, memory, limit, rx, tx]
  let charts = [];
  const draw = () => {
    for (const { chart } of charts) chart.destroy();
    charts = [
      { chart: make(document.getElementById("chart-cpu"), 1, (value) => `${+value.toPrecision(3)} %`, 1, 10), columns: [1] },
      { chart: make(document.getElementById("chart-memory"), 1, bytes, 1 << 20, 1024), columns: [2] },
      { chart: make(document.getElementById("chart-network"), 2, rate, 1024, 1024), columns: [4, 5] },
    ];
    update();
  };
  const update = () => {
    const times = data.map((item) => item[0]);
    for (const { chart, columns } of charts) chart.setData([times, ...columns.map((column) => data.map((item) => item[column]))]);
    const now = data.at(-1);
    if (!now) return;
    const words = { cpu: percent(now[1]), memory: bytes(now[2]) + (limit ? ` / ${bytes(limit)}` : ""), rx: rate(now[4]), tx: rate(now[5]) };
    for (const [name, text] of Object.entries(words)) {
      for (const cell of document.querySelectorAll(`[data-now="${name}"]`)) cell.textContent = text;
    }
    document.getElementById("chart-table").replaceChildren(...data.slice(-ROWS).reverse().map(tableRow));
  };
  const tableRow = (item) => {
    const line = document.createElement("tr");
    const time = new Date(item[0] * 1000).toLocaleTimeString(document.documentElement.lang, { hour12: false });
    [time, percent(item[1]), bytes(item[2]), rate(item[4]), rate(item[5])].forEach((text, i) => {
      const cell = document.createElement(i ? "td" : "th");
      if (i) cell.className = "num";
      else cell.scope = "row";
      cell.textContent = text;
      line.append(cell);
    });
    return line;
  };
  on("stats", (message) => {
    if (message.id !== id) return;
    for (const [time, ...figures] of message.samples) {
      if (!data.length || time / 1000 > data.at(-1)[0]) data.push([time / 1000, ...figures]);
    }
    data.splice(0, Math.max(0, data.length - KEEP));
    panel.dataset.samples = String(Number(panel.dataset.samples ?? 0) + message.samples.length);
    update();
  });
  const look = () => watch({ watch: "stats", ids: document.hidden ? [] : [id] }); // hidden tabs stop the figures
  draw();
  document.documentElement.addEventListener("slipway:theme", draw);
  new ResizeObserver(() => {
    for (const { chart } of charts) chart.setSize({ width: chart.root.parentElement.clientWidth, height: chart.root.parentElement.clientHeight });
  }).observe(panel);
  document.addEventListener("visibilitychange", look);
  look();
}
