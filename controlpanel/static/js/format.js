// Figures for people, in the page's language. The server writes the first ones (template tags); these write the next.

const units = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(count) {
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

export function percent(value) {
  return `${value.toFixed(value < 10 ? 2 : 1)} %`;
}
