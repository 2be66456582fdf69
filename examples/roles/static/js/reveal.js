// Rooms below the fold rise into view when scrolled to.
if ("IntersectionObserver" in window && !window.matchMedia("(prefers-reduced-motion: reduce)").matches) {
  const watch = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) {
      if (isIntersecting) {
        target.classList.remove("below");
        watch.unobserve(target);
      }
    }
  });
  for (const room of document.querySelectorAll(".room")) {
    if (room.getBoundingClientRect().top > window.innerHeight) {
      room.classList.add("below");
    }
    watch.observe(room);
  }
}
