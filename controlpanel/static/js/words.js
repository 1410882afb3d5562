// Words of a command line: how a shell wants them quoted, and what it makes of them.

export function quote(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`;
}

/** Words as the server splits them (Python's shlex): quotes and backslashes are understood, nothing is expanded. null: a quote is open. */
export function split(text) {
  const words = [];
  let word = null;
  let mark = "";
  for (let i = 0; i < text.length; i += 1) {
    const sign = text[i];
    if (mark === "'" || mark === '"') {
      if (sign === mark) mark = "";
      else if (sign === "\\" && mark === '"' && '"\\'.includes(text[i + 1] ?? "")) word += text[(i += 1)] ?? "";
      else word += sign;
    } else if (sign === "'" || sign === '"') {
      mark = sign;
      word ??= "";
    } else if (sign === "\\") {
      if (i + 1 === text.length) return null;
      word = (word ?? "") + text[(i += 1)];
    } else if (/\s/.test(sign)) {
      if (word !== null) words.push(word);
      word = null;
    } else word = (word ?? "") + sign;
  }
  if (mark) return null;
  if (word !== null) words.push(word);
  return words;
}
