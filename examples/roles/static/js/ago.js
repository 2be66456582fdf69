// <time class="ago" datetime="..."> reads as "3 minutes ago".
{
  const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  const steps = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  for (const time of document.querySelectorAll("time.ago")) {
    const seconds = (new Date(time.dateTime) - Date.now()) / 1000;
    const [unit, size] = steps.find(([, size]) => Math.abs(seconds) >= size) ?? ["second", 1];
    time.textContent = words.format(Math.round(seconds / size), unit);
    time.title = new Date(time.dateTime).toLocaleString();
  }
}
