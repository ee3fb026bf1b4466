/* What a release changes: the thresholds as they are set, what moves along, and the parts that threshold_line.js has. */

const SENT = Symbol.for("hybrid.threshold_line.sent")

export default function ({ data, setTriggerValue }) {
  window[SENT] = { ...window[SENT], data, report: values => setTriggerValue("moved", values) }
  window[SENT].meet?.()
  return () => {
    delete window[SENT].data
    window[SENT].meet?.()
  }
}
