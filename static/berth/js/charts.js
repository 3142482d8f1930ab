// <div data-chart="ID">: draws the figure {data, layout} in <script type="application/json" id="ID">
// with the page's Plotly, in the colours of the design tokens, again whenever the theme changes.
(() => {
  "use strict";
  const config = { displaylogo: false, responsive: true };

  // Tokens are light-dark() expressions; only a used colour is resolved, hence the probe element.
  const palette = (element) => {
    const probe = document.createElement("span");
    probe.className = "chart-probe";
    element.append(probe);
    const colour = (token) => {
      probe.style.color = `var(--${token})`;
      return getComputedStyle(probe).color;
    };
    const colours = {
      text: colour("text"),
      muted: colour("muted"),
      surface: colour("surface"),
      grid: colour("border"),
      low: colour("sunken"),
      // The grey comes last: it is that of all other groups.
      ways: [1, 2, 3, 4, 5, 7, 8, 6].map((n) => colour(`chart-${n}`)),
      font: getComputedStyle(element).fontFamily,
    };
    probe.remove();
    return colours;
  };

  const axis = (colours, given) => ({
    gridcolor: colours.grid,
    zerolinecolor: colours.grid,
    linecolor: colours.grid,
    automargin: true,
    separatethousands: true,
    ...given,
    tickfont: { color: colours.muted, ...given?.tickfont },
  });

  const themed = (layout, colours) => {
    const result = {
      autosize: true,
      margin: { l: 48, r: 12, t: 12, b: 40 },
      hovermode: "x unified",
      ...layout,
      template: null,
      colorway: colours.ways,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { size: 12, ...layout.font, family: colours.font, color: colours.text },
      hoverlabel: { ...layout.hoverlabel, bgcolor: colours.surface, bordercolor: colours.grid, font: { color: colours.text } },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", ...layout.legend },
    };
    result.xaxis = { showgrid: false, ...layout.xaxis };
    for (const name of new Set(["xaxis", "yaxis", ...Object.keys(layout)])) {
      if (/^[xy]axis\d*$/.test(name)) result[name] = axis(colours, result[name]);
    }
    return result;
  };

  // A heat map has no default colours in the layout that Plotly would take up: they belong to the trace.
  const coloured = (trace, colours) => (
    trace.type === "heatmap" && !trace.colorscale
      ? { xgap: 1, ygap: 1, ...trace, colorscale: [[0, colours.low], [1, colours.ways[0]]] }
      : trace
  );

  const draw = (element) => {
    const source = document.getElementById(element.dataset.chart);
    if (!source) return;
    const figure = JSON.parse(source.textContent);
    const colours = palette(element);
    const data = (figure.data ?? []).map((trace) => coloured(trace, colours));
    window.Plotly.react(element, data, themed(figure.layout ?? {}, colours), config);
  };

  const drawAll = (root) => {
    if (!window.Plotly) return; // the table beside the chart still tells the same
    for (const element of root.querySelectorAll("[data-chart]")) draw(element);
  };

  const redraw = () => drawAll(document);
  document.addEventListener("DOMContentLoaded", redraw);
  document.addEventListener("berth:theme", redraw);
  document.addEventListener("htmx:load", (event) => drawAll(event.target));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  // Plotly follows a new width by itself, but leaves a legend that had more lines where it was: over the bars.
  let settled;
  addEventListener("resize", () => {
    clearTimeout(settled);
    settled = setTimeout(redraw, 300);
  });
})();
