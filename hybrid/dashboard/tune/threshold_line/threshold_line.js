/* The draggable threshold: a line over the stacked panels, and a point on the map of two thresholds.
 *
 * The figures under it never change while it moves. Everything shown comes from arrays that Python computed and
 * formatted, so nothing is calculated or rounded here: a position is looked up, and its texts are put into the page.
 * The native sliders stay the source of truth. On release the new values go to Python once, which draws its own numbers.
 */

const OVERLAY = "hybrid-threshold-overlay"
const FLAG = 56 // pixels that the number above the line takes, at most
const SNAP = 7 // pixels around a star within which a drag lands on it
const CURRENT = Symbol.for("hybrid.threshold_line")
const SENT = Symbol.for("hybrid.threshold_line.sent") // what threshold_values.js was given
const STYLE = `
  .${OVERLAY} { position: absolute; inset: 0; pointer-events: none; z-index: 5; overflow: visible; }
  .${OVERLAY} * { position: absolute; box-sizing: border-box; }
  .${OVERLAY} .grip { top: 0; width: 32px; margin-left: -16px; pointer-events: auto; cursor: ew-resize; touch-action: none; }
  .${OVERLAY} .rule { left: 15px; width: 2px; height: 100%; background: #2f7de1; }
  .${OVERLAY} .flag { top: 0; left: 16px; transform: translate(-50%, -100%); padding: 2px 9px; border-radius: 11px;
    background: #1565c0; color: #fff; font: 600 13px/18px var(--st-font, sans-serif); white-space: nowrap;
    font-variant-numeric: tabular-nums; }
  .${OVERLAY} .dot { top: 0; left: 0; width: 13px; height: 13px; margin: -6.5px; border-radius: 50%;
    border: 2px solid #fff; }
  .${OVERLAY} .point { width: 44px; height: 44px; margin: -22px; pointer-events: auto; cursor: move; touch-action: none;
    border-radius: 50%; }
  .${OVERLAY} .point::after { content: ""; position: absolute; inset: 13px; border-radius: 50%; background: #fff;
    border: 4px solid #1565c0; box-shadow: 0 0 0 2px #fff; }
  .${OVERLAY} .grip:focus-visible .flag, .${OVERLAY} .point:focus-visible { outline: 3px solid #e69f00; outline-offset: 2px; }
  .${OVERLAY} .grip:focus, .${OVERLAY} .point:focus { outline-width: 0; }
  .${OVERLAY} .point:focus-visible { outline-width: 3px; }
`

/** Index of the first entry of an ascending array that is at or above a value; the last where none is. */
export function firstAtOrAbove(ascending, value) {
  let low = 0
  let high = ascending.length - 1
  while (low < high) {
    const middle = (low + high) >> 1
    if (ascending[middle] >= value) high = middle
    else low = middle + 1
  }
  return low
}

/** Index of the entry of a monotone array, rising or falling, that is nearest to a value. */
export function nearest(monotone, value) {
  const falling = monotone[0] > monotone[monotone.length - 1]
  let low = 0
  let high = monotone.length - 1
  while (high - low > 1) {
    const middle = (low + high) >> 1
    if (monotone[middle] < value !== falling) low = middle
    else high = middle
  }
  return Math.abs(monotone[low] - value) <= Math.abs(monotone[high] - value) ? low : high
}

/** Put a text into an element; its text node stays, so that nothing is added to the page, which is watched. */
const write = (element, text) => {
  if (element.firstChild) element.firstChild.nodeValue = text
  else element.append(text)
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high)

/** Pixels from the left (or top) edge of a figure for a value on one of its axes, and back. */
const toPixel = (axis, value) => {
  const [from, to] = axis.range
  const share = (value - from) / (to - from)
  return axis._offset + axis._length * (axis._id.startsWith("y") ? 1 - share : share)
}
const toValue = (axis, pixel) => {
  const [from, to] = axis.range
  const share = clamp((pixel - axis._offset) / axis._length, 0, 1)
  return from + (to - from) * (axis._id.startsWith("y") ? 1 - share : share)
}

class Overlay {
  constructor() {
    this.listening = new AbortController()
    this.values = {}
    this.dragging = null // "line", "map", or null
    this.following = null // key of the native slider that the user moves
    this.painted = new Set() // tracks of native sliders that were filled anew
    this.before = [] // texts of the page before a drag, to put back when it is given up
    this.wide = new Map() // parts of the bar, and their widths before a drag
    this.elements = new Map() // by selector: what a drag writes into, looked up once
    this.fills = new Map() // of native sliders' tracks: the two colours, read once
    const schedule = () => {
      this.frame ??= requestAnimationFrame(() => {
        this.frame = null
        this.place()
      })
    }
    this.resized = new ResizeObserver(schedule)
    this.added = new MutationObserver(schedule)
    this.added.observe(document.body, { childList: true, subtree: true })
    this.slid = new MutationObserver(changes => this.follow(changes[0].target))
    this.on(document, "keydown", event => this.sliderKey(event), true)
    this.on(document, "pointerdown", event => this.watchSlider(event), true)
  }

  on(target, type, listener, capture = false) {
    target.addEventListener(type, listener, { capture, signal: this.listening.signal })
  }

  destroy() {
    this.listening.abort()
    for (const observer of [this.resized, this.added, this.slid]) observer.disconnect()
    cancelAnimationFrame(this.frame)
    clearTimeout(this.later)
    document.body.removeAttribute("data-dragging")
    document.querySelectorAll(`.${OVERLAY}`).forEach(element => element.remove())
  }

  /** Take what Python sent; a drag that has begun meanwhile goes on. */
  update(data, report) {
    this.data = data
    this.report = report
    if (this.dragging) return
    this.following = null
    this.before = []
    this.wide.clear()
    this.elements.clear()
    this.values = { ...data.values }
    document.body.removeAttribute("data-dragging")
    this.unpaint()
    this.place()
  }

  chart(name) {
    const found = document.querySelector(`.st-key-${name} .js-plotly-plot`)
    return found?._fullLayout?.xaxis ? found : null
  }

  /** Put exactly one overlay on each figure, and everything on it where it belongs. */
  place() {
    if (!this.data) return
    const wanted = new Set()
    for (const kind of ["line", "map"]) {
      const chart = this.data[kind] && this.chart(this.data[kind].chart)
      if (!chart) continue
      let root = chart.querySelector(`:scope > .${OVERLAY}`)
      if (!root || root.owner !== this) {
        root?.remove()
        root = kind === "line" ? this.makeLine() : this.makeMap()
        root.owner = this
        if (getComputedStyle(chart).position === "static") chart.style.position = "relative"
        chart.append(root)
        this.resized.observe(chart)
      }
      wanted.add(root)
      this[kind] = { chart, root }
    }
    document.querySelectorAll(`.${OVERLAY}`).forEach(root => wanted.has(root) || root.remove())
    this.draw()
  }

  /** Whether a place is so near to the recommended one that it is meant. */
  atStar(part, axis, pixel) {
    return Boolean(part.star) && Math.abs(toPixel(axis, part.star.x) - pixel) <= SNAP
  }

  make(parent, name, attributes = {}) {
    const element = document.createElement("div")
    element.className = name
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value)
    parent.append(element)
    return element
  }

  makeRoot() {
    const root = document.createElement("div")
    root.className = OVERLAY
    root.append(Object.assign(document.createElement("style"), { textContent: STYLE }))
    return root
  }

  makeLine() {
    const root = this.makeRoot()
    const grip = this.make(root, "grip", { role: "slider", tabindex: "0", "aria-valuemin": "0", "aria-valuemax": "1" })
    this.make(grip, "rule")
    this.make(grip, "flag")
    for (const panel of this.data.line.panels) this.make(root, "dot").style.background = panel.colour
    this.drag(grip, "line", (x, _y) => {
      const { line } = this.data
      const { xaxis } = this.line.chart._fullLayout
      if (this.atStar(line, xaxis, x)) return { [line.key]: line.star.value }
      const along = toValue(xaxis, x)
      // on the plain axis a pixel is coarser than a thousandth: read round numbers; elsewhere the thresholds themselves
      const value = line.plain ? Math.round(along * 1000) / 1000 : line.at[nearest(line.x, along)]
      return { [line.key]: value }
    })
    this.on(grip, "keydown", event => this.step(event, this.data.line.key))
    return root
  }

  makeMap() {
    const root = this.makeRoot()
    const point = this.make(root, "point", { role: "slider", tabindex: "0", "aria-valuemin": "0", "aria-valuemax": "1" })
    this.drag(point, "map", (x, y) => {
      const { map } = this.data
      const { xaxis, yaxis } = this.map.chart._fullLayout
      const [first, second] = map.axes
      if (this.atStar(first, xaxis, x) && this.atStar(second, yaxis, y))
        return { [first.key]: first.star.value, [second.key]: second.star.value }
      return {
        [first.key]: first.at[nearest(first.x, toValue(xaxis, x))],
        [second.key]: second.at[nearest(second.x, toValue(yaxis, y))],
      }
    })
    this.on(point, "keydown", event => {
      const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowDown: [1, -1], ArrowUp: [1, 1] }[event.key]
      if (!move) return this.step(event, null)
      event.preventDefault()
      const axis = this.data.map.axes[move[0]]
      const at = clamp(nearest(axis.at, this.values[axis.key]) + move[1], 0, axis.at.length - 1)
      this.show({ [axis.key]: axis.at[at] }, "map")
      this.releaseSoon()
    })
    return root
  }

  /** Let an element be dragged by mouse, pen or finger; `read` turns a place on the figure into values. */
  drag(element, kind, read) {
    let held = { x: 0, y: 0 } // from the pointer to the middle of what it holds
    const spot = event => {
      const box = this[kind].chart.getBoundingClientRect()
      return [event.clientX - box.left - held.x, event.clientY - box.top - held.y]
    }
    this.on(element, "pointerdown", event => {
      if (event.button !== 0) return
      event.preventDefault()
      event.stopPropagation()
      element.setPointerCapture(event.pointerId)
      element.focus({ preventScroll: true })
      const box = element.getBoundingClientRect()
      held = { x: event.clientX - (box.left + box.width / 2), y: event.clientY - (box.top + box.height / 2) }
      this.dragging = kind
    })
    this.on(element, "pointermove", event => this.dragging === kind && this.show(read(...spot(event)), kind))
    this.on(element, "pointerup", () => this.dragging === kind && this.release())
    this.on(element, "pointercancel", () => this.dragging === kind && this.giveUp())
  }

  /** Arrow keys on the line: the next threshold at which anything changes; Escape gives a drag up. */
  step(event, key) {
    if (event.key === "Escape" && this.dragging) return this.giveUp()
    const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -20, PageUp: 20 }[event.key]
    const ends = { Home: 0, End: Infinity }[event.key]
    if (key === null || (by === undefined && ends === undefined)) return
    event.preventDefault()
    event.stopPropagation()
    const { at, panels } = this.data.line
    const last = at.length - 1
    const changed = (a, b) => panels.some(panel => panel.y[a] !== panel.y[b])
    let next = ends === undefined ? this.lineIndex() : clamp(ends, 0, last)
    for (let left = Math.abs(by ?? 0); left > 0; left--) {
      const from = next
      do next = clamp(next + Math.sign(by), 0, last)
      while (next > 0 && next < last && !changed(from, next))
    }
    this.show({ [key]: at[next] }, "line")
    this.releaseSoon()
  }

  sliderOf(key) {
    return document.querySelector(`.st-key-${key.replaceAll(/[^\w-]/g, "-")} [data-testid="stSlider"]`)
  }

  /** The key of the data's threshold whose native slider this element belongs to. */
  keyOf(element) {
    if (!this.data || !(element instanceof Element)) return undefined
    return Object.keys(this.data.values).find(key => this.sliderOf(key)?.contains(element))
  }

  /** Arrow keys on the native slider of the line step as on the line itself. */
  sliderKey(event) {
    if (event.target?.type !== "range") return
    const key = this.keyOf(event.target)
    if (key === undefined) return
    if (key === this.data.line?.key && event.key.startsWith("Arrow") && !event.shiftKey) {
      this.following = null
      this.step(event, key)
    } else this.watchSlider(event)
  }

  watchSlider(event) {
    const key = this.keyOf(event.target)
    if (key === undefined) return
    this.following = key
    this.slid.disconnect()
    this.slid.observe(this.sliderOf(key).querySelector("input"), { attributes: true })
  }

  /** The user moves a native slider: go along. It reports to Python by itself. */
  follow(input) {
    if (this.dragging || !this.following) return
    const value = Number(input.value)
    if (value === this.values[this.following]) return
    this.show({ [this.following]: value }, this.following === this.data.line?.key ? "line" : "slider")
  }

  release() {
    this.dragging = null
    clearTimeout(this.later)
    this.later = null
    if (Object.entries(this.values).every(([key, value]) => this.data.values[key] === value)) this.giveUp()
    else this.report({ ...this.values })
  }

  releaseSoon() {
    clearTimeout(this.later)
    this.later = setTimeout(() => this.release(), 250)
  }

  giveUp() {
    this.dragging = null
    for (const [element, text] of this.before) if (element.firstChild) element.firstChild.nodeValue = text
    this.before = []
    for (const [part, width] of this.wide) part.style.width = width
    this.wide.clear()
    this.values = { ...this.data.values }
    document.body.removeAttribute("data-dragging")
    for (const key of Object.keys(this.values)) this.moveThumb(key)
    this.unpaint()
    this.draw()
  }

  /** Let the sliders' own fill show again. */
  unpaint() {
    for (const track of this.painted) track.style.backgroundImage = ""
    this.painted.clear()
    this.fills.clear()
  }

  /** Show other values everywhere: on the figures, in the tiles, on the sliders. */
  show(values, source) {
    Object.assign(this.values, values)
    if (document.body.dataset.dragging !== source) document.body.setAttribute("data-dragging", source)
    if (!this.following) Object.keys(values).forEach(key => this.moveThumb(key)) // reads styles: before texts change
    if (source === "line") this.write(this.data.line, this.lineIndex())
    else if (source === "map") this.write(this.data.map, this.mapIndex())
    this.draw()
  }

  /** What a selector finds; looked up once, until the page is drawn anew. */
  find(selector) {
    let found = this.elements.get(selector)
    if (!found?.length || !found.every(element => element.isConnected))
      this.elements.set(selector, (found = [...document.querySelectorAll(selector)]))
    return found
  }

  write({ live, bars = {} }, index) {
    for (const [selector, widths] of Object.entries(bars)) {
      const [part] = this.find(selector)
      if (!part) continue
      if (!this.wide.has(part)) this.wide.set(part, part.style.width)
      part.style.width = `${widths[index]}%`
    }
    for (const [name, texts] of Object.entries(live)) {
      for (const element of this.find(this.data.targets[name])) {
        const text = element.firstChild
        if (!text || text.nodeValue === texts[index]) continue
        if (!this.before.some(([seen]) => seen === element)) this.before.push([element, text.nodeValue])
        text.nodeValue = texts[index] // the text node stays, so that the page can still update it
      }
    }
  }

  moveThumb(key) {
    const slider = this.sliderOf(key)
    const input = slider?.querySelector("input")
    const thumb = input?.closest('[style*="left"]')
    if (!thumb) return
    const from = Number(input.min)
    const share = (this.values[key] - from) / (Number(input.max) - from)
    thumb.style.left = `${share * 100}%`
    // the filled part is a gradient with one hard stop, by a class; ours lies over it until the page draws its own
    const track = thumb.previousElementSibling
    if (track && !this.fills.has(track)) {
      const fill = getComputedStyle(track).backgroundImage
      const colours = fill.startsWith("linear-gradient") ? fill.match(/rgba?\([^)]*\)/g) : null
      this.fills.set(track, colours && [colours[0], colours[colours.length - 1]])
    }
    const colours = track && this.fills.get(track)
    if (colours) {
      const [filled, empty] = colours
      const stop = `${share * 100}%`
      track.style.backgroundImage = `linear-gradient(to right, ${filled} ${stop}, ${empty} ${stop})`
      this.painted.add(track)
    }
    const label = slider.querySelector('[data-testid="stSliderThumbValue"] p')?.firstChild
    if (label) label.nodeValue = this.values[key].toFixed(3)
  }

  lineIndex() {
    return firstAtOrAbove(this.data.line.at, this.values[this.data.line.key])
  }

  mapIndex() {
    const [first, second] = this.data.map.axes
    return nearest(second.at, this.values[second.key]) * first.at.length + nearest(first.at, this.values[first.key])
  }

  draw() {
    if (this.data.line && this.line?.root.isConnected) this.drawLine()
    if (this.data.map && this.map?.root.isConnected) this.drawMap()
  }

  drawLine() {
    const { line } = this.data
    const { chart, root } = this.line
    const layout = chart._fullLayout
    const [, grip, ...dots] = root.children
    const value = this.values[line.key]
    const off = value === null || value === undefined
    root.hidden = off
    if (off) return
    const index = this.lineIndex()
    const x = toPixel(layout.xaxis, line.plain ? value : line.x[index])
    const top = layout.yaxis._offset
    const last = layout[line.bottom]
    grip.style.transform = `translate(${x}px, ${top}px)`
    grip.style.height = `${last._offset + last._length - top}px`
    const said = value > 1 ? "never" : value.toFixed(line.digits)
    write(grip.lastChild, said)
    grip.lastChild.style.left = `${16 - Math.max(0, x + FLAG / 2 - layout.width)}px` // inside the chart at its right end
    grip.setAttribute("aria-label", `${line.label}: drag, or use the arrow keys`)
    grip.setAttribute("aria-valuenow", value)
    grip.setAttribute("aria-valuetext", `${said}: ${line.spoken[index]}`)
    line.panels.forEach((panel, i) => {
      const y = toPixel(layout[panel.axis], panel.y[index])
      dots[i].style.transform = `translate(${x}px, ${y}px)`
    })
  }

  drawMap() {
    const { map } = this.data
    const { chart, root } = this.map
    const { xaxis, yaxis } = chart._fullLayout
    const point = root.lastChild
    const [x, y] = map.axes.map((axis, i) => {
      const value = this.values[axis.key]
      const above = firstAtOrAbove(axis.at, value)
      const below = Math.max(above - 1, 0)
      const span = axis.at[above] - axis.at[below]
      const share = span ? clamp((value - axis.at[below]) / span, 0, 1) : 0
      return toPixel(i ? yaxis : xaxis, axis.x[below] + share * (axis.x[above] - axis.x[below]))
    })
    point.style.transform = `translate(${x}px, ${y}px)`
    const [first, second] = map.axes.map(axis => this.values[axis.key])
    point.setAttribute("aria-label", `${map.label}: drag, or use the arrow keys`)
    point.setAttribute("aria-valuenow", first)
    point.setAttribute("aria-valuetext", `${first.toFixed(3)} and ${second.toFixed(3)}`)
  }
}

/** Attach to the page what `data` describes; `report` gets the new values on release. Safe to call again and again. */
export function attach(data, report) {
  window[CURRENT] ??= new Overlay()
  window[CURRENT].update(data, report)
}

export function detach() {
  window[CURRENT]?.destroy()
  delete window[CURRENT]
}

const parts = new Map() // the last ones, by their names
const KEPT = 4

/** Take what Python packed of a part: its name in 16 letters, then JSON. Returns whether it is a new one. */
async function take(packed) {
  const name = new TextDecoder().decode(packed.subarray(0, 16))
  const known = parts.get(name)
  const read = () => new Blob([packed.subarray(16)]).stream().pipeThrough(new DecompressionStream("gzip"))
  const part = known ?? (await new Response(read()).json())
  parts.delete(name)
  parts.set(name, part)
  if (parts.size > KEPT) parts.delete(parts.keys().next().value)
  return !known
}

/** Attach what Python sent last, as soon as all its parts are there. */
function meet() {
  const { data, report } = window[SENT] ?? {}
  if (!data) return detach()
  const { line, map } = data.parts
  if ([line, map].some(name => name && !parts.has(name))) return
  attach({ ...data, line: parts.get(line), map: parts.get(map) }, report)
}

export default function ({ data }) {
  window[SENT] ??= {}
  window[SENT].meet = meet
  take(data).then(isNew => isNew && meet())
}
