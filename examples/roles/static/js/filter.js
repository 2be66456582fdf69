// "Only what my keys open" hides the locked rooms.
document.getElementById("only-open")?.addEventListener("change", (event) => {
  document.querySelector(".rooms").classList.toggle("only-open", event.target.checked);
});
