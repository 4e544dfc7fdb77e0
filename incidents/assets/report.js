"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const colours = { bad: "#c0392b", warn: "#d98a00", good: "#2b8a4b", busy: "#2f6fb5", plain: "#6d7a8c" };
  const FIRST_ROWS = 200;

  const details = document.getElementById("details");
  const evidence = document.getElementById("evidence");
  const show = (index, scroll) => {
    const entry = data.entries[index];
    if (!entry) return;
    details.replaceChildren();
    for (const [name, value] of Object.entries(entry)) {
      if (value === null || value === "") continue;
      const term = document.createElement("dt");
      const told = document.createElement("dd");
      term.textContent = data.names[name] || name;
      told.textContent = String(value);
      details.append(term, told);
    }
    evidence.hidden = false;
    if (scroll) evidence.scrollIntoView({ behavior: "smooth", block: "nearest" });
  };

  const narrow = window.matchMedia("(max-width: 640px)").matches;
  const container = document.getElementById("chart");
  const chart = echarts.init(container, null, { renderer: "canvas" });
  const spread = (index) => (((index * 7) % 11) - 5) / 18;
  const drawBar = (params, api) => {
    const start = api.coord([api.value(1), api.value(0)]);
    const end = api.coord([api.value(2), api.value(0)]);
    const height = api.size([0, 1])[1] * 0.62;
    const frame = params.coordSys;
    const shape = echarts.graphic.clipRectByRect(
      { x: start[0], y: start[1] - height / 2, width: Math.max(end[0] - start[0], 2), height },
      { x: frame.x, y: frame.y, width: frame.width, height: frame.height },
    );
    if (!shape) return null;
    const bar = data.bars[params.dataIndex];
    return {
      type: "rect",
      shape: { ...shape, r: 3 },
      style: { fill: colours[bar.tone], opacity: bar.lane === 1 ? 0.75 : 0.9 },
      textContent: shape.width > 34 ? {
        style: { text: bar.label, fill: "#fff", fontSize: 11, width: shape.width - 8, overflow: "truncate" },
      } : null,
      textConfig: { position: "insideLeft", distance: 5 },
    };
  };
  const label = (entry) => `${entry.when}  ${entry.what}${entry.delay ? "  known " + entry.delay : ""}`;
  chart.setOption({
    animation: false,
    grid: { left: narrow ? 88 : 104, right: 18, top: 12, bottom: 74 },
    tooltip: {
      renderMode: "richText",
      confine: true,
      formatter: (item) => {
        const index = item.seriesIndex === 0 ? data.bars[item.dataIndex].entry : data.points[item.dataIndex].entry;
        const text = (item.seriesIndex === 0 ? data.bars[item.dataIndex].label + "\n" : "") + label(data.entries[index]);
        return text.replace(/[{}|]/g, " ").replace(/(.{90})/g, "$1\n");
      },
    },
    xAxis: { type: "time", min: data.start, max: data.end, axisLabel: { hideOverlap: true }, splitLine: { show: true, lineStyle: { color: "#eef1f5" } } },
    yAxis: { type: "category", data: data.lanes, inverse: true, axisTick: { show: false }, axisLine: { show: false }, axisLabel: { color: "#1d2430", fontSize: narrow ? 11 : 12 }, splitArea: { show: true, areaStyle: { color: ["#ffffff", "#f8fafc"] } } },
    useUTC: true,
    dataZoom: [
      { type: "inside", filterMode: "weakFilter" },
      { type: "slider", filterMode: "weakFilter", showDataShadow: false, height: 22, bottom: 14, labelFormatter: (at) => new Date(at).toISOString().slice(5, 19).replace("T", " ") },
    ],
    series: [
      { type: "custom", renderItem: drawBar, encode: { x: [1, 2], y: 0 }, data: data.bars.map((bar) => [bar.lane, bar.start, bar.end]) },
      {
        type: "scatter", encode: { x: 0, y: 1 }, symbolSize: narrow ? 5 : 6,
        data: data.points.map((point, index) => ({
          value: [point.at, point.lane],
          symbolOffset: [0, point.lane === 0 ? spread(index) * 60 : 15],
          itemStyle: { color: colours[point.tone], borderColor: point.lane === 0 ? "transparent" : "#fff", borderWidth: 1 },
        })),
      },
    ],
  });
  chart.on("click", (item) => {
    show(item.seriesIndex === 0 ? data.bars[item.dataIndex].entry : data.points[item.dataIndex].entry, true);
  });
  // A canvas is only stretched by the style sheet: it has to be drawn in the proportions of the paper.
  let printing = false;
  const draw = (size) => { chart.resize(size); chart.getZr().flush(); };
  window.addEventListener("resize", () => { if (!printing) draw({ width: "auto", height: "auto" }); });
  window.addEventListener("beforeprint", () => { printing = true; draw({ width: 970, height: 300 }); });
  window.addEventListener("afterprint", () => { printing = false; draw({ width: "auto", height: "auto" }); });

  const body = document.getElementById("everything");
  const count = document.getElementById("count");
  const more = document.getElementById("more");
  const filter = document.getElementById("filter");
  let limit = FIRST_ROWS;
  const list = () => {
    const wanted = filter.value.trim().toLowerCase();
    const found = [];
    data.entries.forEach((entry, index) => {
      const text = `${entry.when} ${entry.kind} ${entry.what} ${entry.who} ${entry.why}`.toLowerCase();
      if (!wanted || text.includes(wanted)) found.push(index);
    });
    body.replaceChildren(...found.slice(0, limit).map((index) => {
      const entry = data.entries[index];
      const row = document.createElement("tr");
      row.className = entry.kind;
      for (const text of [entry.when, entry.delay, entry.kind, entry.what, entry.who, entry.why]) {
        const cell = document.createElement("td");
        cell.textContent = text || "";
        row.append(cell);
      }
      row.addEventListener("click", () => show(index, true));
      return row;
    }));
    count.textContent = `${Math.min(limit, found.length)} of ${found.length}`;
    more.hidden = found.length <= limit;
  };
  more.addEventListener("click", () => { limit += 1000; list(); });
  filter.addEventListener("input", () => { limit = FIRST_ROWS; list(); });
  list();
  chart.getZr().flush();
  document.body.dataset.readyAfterMs = String(Math.round(performance.now()));
})();
