"use strict";
(() => {
  const NARROW = 560;
  const plots = [...document.querySelectorAll(".plot")];

  // A legend that wraps takes its rows from the plot, and a drag must scroll the page.
  const narrow = ({ data, layout }) => {
    const traces = data.filter((trace) => trace.name && trace.showlegend !== false);
    const shapes = (layout.shapes || []).filter((shape) => shape.showlegend);
    layout.height += 26 * Math.max(0, traces.length + shapes.length - 3);
    layout.dragmode = false;
  };

  const draw = (plot) => {
    const figure = JSON.parse(document.getElementById(plot.dataset.source).textContent);
    if (plot.clientWidth < NARROW) narrow(figure);
    return Plotly.newPlot(plot, figure.data, figure.layout, {
      responsive: true,
      displaylogo: false,
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    });
  };
  Promise.all(plots.map(draw)).then(() => {
    hints();
    document.body.dataset.drawn = plots.length;
  });

  // What is cut off at the right fades, for many systems hide scrollbars until they are used.
  const boxes = [...document.querySelectorAll(".scroll")];
  const hint = (box) =>
    box.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
  const hints = () => boxes.forEach(hint);
  boxes.forEach((box) => box.addEventListener("scroll", () => hint(box), { passive: true }));
  addEventListener("resize", hints);
  hints();

  const fit = () => plots.forEach((plot) => Plotly.Plots.resize(plot));
  addEventListener("beforeprint", fit);
  addEventListener("afterprint", fit);

  const version = document.body.dataset.version;
  const fresh = document.getElementById("fresh");
  if (version && fresh) {
    const ask = async () => {
      try {
        const answer = await fetch(location.href, { method: "HEAD", cache: "no-store" });
        if (answer.ok && answer.headers.get("ETag") !== `"${version}"`) fresh.hidden = false;
      } catch {
        // The server has stopped: the page stays as it is.
      }
      if (fresh.hidden) setTimeout(ask, 10000);
    };
    setTimeout(ask, 10000);
  }
})();
