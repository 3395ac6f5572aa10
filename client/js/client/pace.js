/**
 * The time in ms before repetition n, from 0 on: from first on twice as long each time,
 * never over longest, and of that a random half to whole.
 */
export function delay(n, first, longest) {
  const full = Math.min(longest, first * 2 ** Math.min(n, 30));
  return full * (0.5 + Math.random() / 2);
}
