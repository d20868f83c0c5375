// Of every visible text: how it stands out from what lies behind it, as WCAG 2 counts it.
() => {
  const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);
  const channel = (value) => (value /= 255) <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const groundOf = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return [at, getComputedStyle(at).backgroundColor];
    }
    return [document.documentElement, "rgb(255, 255, 255)"];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    const style = getComputedStyle(element);
    if (!text || !element.checkVisibility() || element.closest("noscript, .hidden")) continue;
    const [behind, ground] = groundOf(element);
    const lights = [luminance(numbers(style.color)), luminance(numbers(ground))];
    const [a, b] = [Math.max(...lights), Math.min(...lights)];
    const size = parseFloat(style.fontSize), bold = Number(style.fontWeight) >= 700;
    found.push({
      text, ground, ratio: (a + 0.05) / (b + 0.05), luminance: lights[1], body: behind === document.body,
      large: size >= 24 || (bold && size >= 18.66),
    });
  }
  return found;
}
