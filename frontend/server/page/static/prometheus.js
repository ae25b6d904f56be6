// The text of /metrics, and what can be said from two readings of it.

const LINE = /^([A-Za-z_][\w:]*)(?:\{(.*)\})? (\S+)/;
const LE = /(?:^|,)le="([^"]*)"/;

/** Samples by name without the prefix before ":" (which is an option): sums over labels, histogram buckets by bound. */
export function parse(text) {
  const values = new Map();
  const buckets = new Map();
  for (const line of text.split("\n")) {
    const found = line[0] === "#" ? null : LINE.exec(line);
    if (!found) continue;
    const name = found[1].slice(found[1].indexOf(":") + 1);
    const value = Number(found[3]);
    const bound = LE.exec(found[2] ?? "");
    if (bound && name.endsWith("_bucket")) {
      const histogram = buckets.get(name) ?? new Map();
      const le = bound[1] === "+Inf" ? Infinity : Number(bound[1]);
      histogram.set(le, (histogram.get(le) ?? 0) + value);
      buckets.set(name, histogram);
    } else {
      values.set(name, (values.get(name) ?? 0) + value);
    }
  }
  return { values, buckets };
}

export function gauge(reading, name) {
  return reading.values.get(name) ?? 0;
}

/** How much a counter has grown between two readings; a server that began anew counts from zero. */
export function growth(before, now, name) {
  const grown = gauge(now, name) - gauge(before, name);
  return grown < 0 ? gauge(now, name) : grown;
}

/** A quantile of what a histogram saw between two readings, by linear interpolation; null when it saw nothing. */
export function quantile(before, now, name, share) {
  const newer = now.buckets.get(`${name}_bucket`);
  if (!newer) return null;
  const older = before.buckets.get(`${name}_bucket`) ?? new Map();
  const bounds = [...newer.keys()].sort((a, b) => a - b);
  const counts = bounds.map((le) => newer.get(le) - (older.get(le) ?? 0));
  const total = counts[counts.length - 1];
  if (!(total > 0)) return null;
  const wanted = share * total;
  const at = counts.findIndex((count) => count >= wanted);
  const low = at > 0 ? bounds[at - 1] : 0;
  const below = at > 0 ? counts[at - 1] : 0;
  if (bounds[at] === Infinity) return low;
  return low + ((bounds[at] - low) * (wanted - below)) / (counts[at] - below);
}
