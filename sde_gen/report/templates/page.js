
for (const slider of document.querySelectorAll(".slider")) {
  const range = slider.querySelector("input"), frames = [...slider.querySelectorAll("figure")];
  const show = () => frames.forEach((frame, index) => { frame.hidden = index !== Number(range.value); });
  range.addEventListener("input", show);
  range.value = frames.length - 1;
  show();
}
