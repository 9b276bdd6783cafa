"use strict";

/* Charts: each specification stands beside its place; colours are CSS variables of the page. */
const chartConfig = JSON.parse(document.getElementById("chart-config").textContent);
const draw = (source) => {
  const place = document.getElementById(source.dataset.chart);
  vegaEmbed(place, JSON.parse(source.textContent), {
    actions: false,
    renderer: "svg",
    config: chartConfig,
    tooltip: { disableDefaultStyle: true },
  }).catch((error) => {
    place.textContent = "This chart can't be drawn: " + error.message;
    console.error(error);
  });
};
for (const source of document.querySelectorAll("script[data-chart]")) {
  /* What is folded away has no width to draw in. */
  const folded = source.closest("details:not([open])");
  if (folded) folded.addEventListener("toggle", () => draw(source), { once: true });
  else draw(source);
}

/* Galleries: one choice per tag; a picture is shown where all its tags are chosen. */
for (const gallery of document.querySelectorAll(".gallery")) {
  const pictures = [...gallery.querySelectorAll(".pictures > figure")];
  const tags = pictures.map((picture) => JSON.parse(picture.dataset.tags));
  const count = gallery.querySelector(".shown-count");
  const chosen = new Map();

  const show = () => {
    let shown = 0;
    pictures.forEach((picture, index) => {
      picture.hidden = [...chosen].some(([tag, value]) => tags[index][tag] !== value);
      shown += picture.hidden ? 0 : 1;
    });
    count.textContent =
      shown === pictures.length ? `${shown} pictures` : `${shown} of ${pictures.length} pictures`;
  };

  for (const group of gallery.querySelectorAll(".filter")) {
    group.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      for (const other of group.querySelectorAll("button")) {
        other.setAttribute("aria-pressed", String(other === button));
      }
      if (button.dataset.value === undefined) chosen.delete(group.dataset.tag);
      else chosen.set(group.dataset.tag, button.dataset.value);
      show();
    });
  }
}

/* A picture opens larger; Escape or a click beside it closes it. */
const enlarged = document.getElementById("enlarged");
for (const button of document.querySelectorAll("button.picture")) {
  button.addEventListener("click", () => {
    const caption = button.closest("figure").querySelector("figcaption");
    enlarged.querySelector(".large").replaceChildren(button.querySelector("svg").cloneNode(true));
    enlarged.querySelector(".caption").replaceChildren(...caption.cloneNode(true).childNodes);
    enlarged.showModal();
  });
}
enlarged.addEventListener("click", (event) => {
  if (event.target === enlarged) enlarged.close();
});
