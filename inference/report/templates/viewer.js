"use strict";
for (const viewer of document.querySelectorAll(".viewer")) {
  const slices = [...viewer.querySelectorAll(".slice")];
  const slider = viewer.querySelector("input[type=range]");
  const stage = viewer.querySelector(".stage");
  const output = viewer.querySelector("output");
  const show = (index) => {
    slider.value = Math.max(0, Math.min(slices.length - 1, index));
    const chosen = slices[slider.value];
    for (const slice of slices) slice.toggleAttribute("hidden", slice !== chosen);
    output.textContent = `Z = ${chosen.dataset.position}`;
    slider.setAttribute("aria-valuetext", output.textContent);
  };
  slider.addEventListener("input", () => show(Number(slider.value)));
  for (const box of viewer.querySelectorAll("input[type=checkbox]")) {
    box.addEventListener("change", () => stage.classList.toggle(`without-${box.name}`, !box.checked));
  }
  stage.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, Home: -slices.length, End: slices.length };
    if (event.altKey || event.ctrlKey || event.metaKey || !(event.key in steps)) return;
    event.preventDefault();
    show(Number(slider.value) + steps[event.key]);
  });
  viewer.querySelector(".controls").hidden = false;
  show(Number(slider.value));
}
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});
