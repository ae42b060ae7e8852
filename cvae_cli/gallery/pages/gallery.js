"use strict";
const cvae = (() => {
  // Columns of a row, and of a tile in it; rows.py writes them.
  const STATUS = 0, PATH = 1, SOURCE = 2, REASON = 3, LABEL = 4, FROM = 5, CONFIDENCE = 6, ORIGINAL = 7, GRID = 8,
    SHOWN = 9, WARNINGS = 10, TILES = 11;
  const TARGET = 0, VERDICT = 1, PROBABILITY = 2, REALISM = 3, URL = 4;
  const FAILED = 0, ROWS = 50, LARGE = 448;
  const $ = (id) => document.getElementById(id);
  const chunks = [];
  let loaded = 0, found = [], at = 0, opener = null, shown = null;

  function make(tag, className, text) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function percent(permille) {
    return permille < 10 ? "<1%" : Math.min(99, Math.floor(permille / 10)) + "%";
  }

  // Data

  function add(number, rows) {
    chunks[number - 1] = rows;
    loaded += rows.length;
    if (number === 1 || number % 10 === 0 || loaded === SETUP.images) update(number !== 1);
    if (!SETUP.inline && number < SETUP.chunks) load(number + 1);
  }

  function load(number) {
    const script = make("script");
    script.src = `${SETUP.data}/data-${number}.js`;
    script.onerror = () => { $("count").textContent = `${SETUP.data}/data-${number}.js is missing: make the page again.`; };
    document.body.append(script);
  }

  function worst(row) {
    let least = 2;
    for (const tile of row[TILES]) {
      if (tile[PROBABILITY] < 0) continue;
      const wrong = tile[VERDICT].toLowerCase() === "w" ? -1 : 0;
      const score = wrong + tile[PROBABILITY] / 1000 + (tile[REALISM] < 0 ? 0 : Math.min(tile[REALISM], 100) / 10000);
      least = Math.min(least, score);
    }
    return least;
  }

  function filter() {
    const text = $("text").value.trim().toLowerCase();
    const [label, source, status, target] = ["label", "source", "status", "target"].map((id) => $(id).value);
    const verdict = $("verdict").value;
    const tileFits = (tile) =>
      (target === "" || tile[TARGET] === Number(target)) && (verdict === "" || tile[VERDICT].toLowerCase() === verdict);
    const result = [];
    for (const rows of chunks) {
      if (!rows) continue;
      for (const row of rows) {
        if (text && !row[PATH].toLowerCase().includes(text) && !row[REASON].toLowerCase().includes(text)) continue;
        if (label !== "" && row[LABEL] !== Number(label)) continue;
        if (source !== "" && row[FROM] !== Number(source)) continue;
        if (status !== "" && row[STATUS] !== Number(status)) continue;
        if ((target !== "" || verdict !== "") && !row[TILES].some(tileFits)) continue;
        result.push(row);
      }
    }
    if ($("order").value === "worst") {
      const scores = new Map(result.map((row) => [row, worst(row)]));
      result.sort((a, b) => scores.get(a) - scores.get(b));
    }
    return result;
  }

  // Rows

  function picture(row, number, side) {
    // The original is number -1.
    const frame = make("span", "frame");
    frame.style.width = frame.style.height = `${side}px`;
    const tile = number < 0 ? null : row[TILES][number];
    const boxes = SETUP.boxes[row[TILES].length];
    const image = make("img");
    image.loading = "lazy";
    image.decoding = "async";
    image.alt = "";
    if (row[GRID] && boxes) {
      const [[width, height], places] = boxes;
      const [left, top, own] = places[number + 1];
      const scale = side / own;
      image.width = Math.round(width * scale);
      image.height = Math.round(height * scale);
      image.style.left = `${-left * scale}px`;
      image.style.top = `${-top * scale}px`;
      image.style.width = `${width * scale}px`;
      image.style.height = `${height * scale}px`;
      image.src = row[GRID];
    } else if (tile ? tile[URL] : row[SHOWN]) {
      image.width = image.height = side;
      image.style.inset = "0";
      image.style.width = image.style.height = "100%";
      image.style.objectFit = "contain";
      if (!tile) image.style.imageRendering = "auto";
      image.src = tile ? tile[URL] : row[ORIGINAL];
    } else {
      frame.append(make("span", "none", tile ? (tile[VERDICT] !== tile[VERDICT].toLowerCase() ? "left out" : SETUP.absent) : "not shown"));
      return frame;
    }
    frame.append(image);
    return frame;
  }

  function about(row, number) {
    if (number < 0) {
      const label = row[LABEL] < 0 ? "" : SETUP.classes[row[LABEL]];
      return { name: "original" + (label ? `, ${label}` : ""), short: label || "original", mark: from(row), kind: "" };
    }
    const tile = row[TILES][number];
    const name = tile[TARGET] < 0 ? "?" : SETUP.classes[tile[TARGET]];
    const kind = tile[VERDICT].toLowerCase();
    if (!SETUP.verdicts[kind]) return { name, short: name, mark: "", kind: "", long: "" };
    const [symbol, word, meaning] = SETUP.verdicts[kind];
    const out = tile[VERDICT] !== kind ? ", left out" : "";
    const realism = tile[REALISM] < 0 ? "" : `; realism ${(tile[REALISM] / 10000).toFixed(4)}`;
    return {
      name, short: name, kind, mark: `${symbol} ${kind === "o" ? "odd " : ""}${percent(tile[PROBABILITY])}`,
      long: `${word}${out}: ${meaning} (probability ${(tile[PROBABILITY] / 1000).toFixed(3)}${realism})`,
    };
  }

  function from(row) {
    if (row[FROM] < 0) return "";
    return SETUP.sources[row[FROM]] + (row[CONFIDENCE] < 0 ? "" : ` ${percent(row[CONFIDENCE])}`);
  }

  function button(row, number) {
    const { name, short, mark, kind, long } = about(row, number);
    const element = make("button", `tile ${number < 0 ? "own" : kind}`);
    element.type = "button";
    element.setAttribute("aria-label", number < 0 ? `${name} of ${row[PATH]}` : `drawn as ${name}${long ? `, ${long}` : ""}`);
    element.append(make("span", "name", short), picture(row, number, SETUP.tile), make("span", `mark ${kind}`, mark || "\u00a0"));
    element.addEventListener("click", () => open(row, number, element));
    return element;
  }

  function article(row) {
    const element = make("article", "image");
    const heading = make("h3");
    const path = row[ORIGINAL] ? make("a", "path", row[PATH]) : make("span", "path", row[PATH]);
    if (row[ORIGINAL]) path.href = row[ORIGINAL];
    heading.append(path, make("span", "soft", SETUP.statuses[row[STATUS]] + (row[SOURCE] === row[PATH] ? "" : ` · ${row[SOURCE]}`)));
    element.append(heading);
    if (row[REASON]) element.append(make("p", row[STATUS] === FAILED ? "why" : "soft", row[REASON]));
    for (const warning of row[WARNINGS]) element.append(make("p", "doubt", warning));
    if (row[STATUS] === FAILED || (!row[TILES].length && !row[SHOWN])) return element;
    if (row[GRID] && !SETUP.boxes[row[TILES].length]) {
      // Where its tiles are in it is not known.
      const whole = make("img", "wide");
      whole.loading = "lazy";
      whole.alt = "the original and its tiles";
      whole.src = row[GRID];
      element.append(whole);
      return element;
    }
    const strip = make("ul", "strip");
    const target = $("target").value, verdict = $("verdict").value;
    const own = make("li", "own");
    own.append(button(row, -1));
    strip.append(own);
    row[TILES].forEach((tile, number) => {
      if (target !== "" && tile[TARGET] !== Number(target)) return;
      if (verdict !== "" && tile[VERDICT].toLowerCase() !== verdict) return;
      const item = make("li");
      item.append(button(row, number));
      strip.append(item);
    });
    element.append(strip);
    return element;
  }

  function show() {
    const pages = Math.max(1, Math.ceil(found.length / ROWS));
    at = Math.min(at, pages - 1);
    $("rows").replaceChildren(...found.slice(at * ROWS, (at + 1) * ROWS).map(article));
    const all = found.length === SETUP.images ? "" : ` of ${SETUP.images.toLocaleString("en")}`;
    const reading = loaded < SETUP.images ? ` (${loaded.toLocaleString("en")} read so far)` : "";
    $("count").textContent = `${found.length.toLocaleString("en")}${all} images${reading}`;
    $("page").textContent = `Page ${at + 1} of ${pages.toLocaleString("en")}`;
    $("back").disabled = at === 0;
    $("next").disabled = at >= pages - 1;
    $("pages").hidden = pages === 1;
  }

  function update(keep) {
    const before = keep && found.slice(at * ROWS, (at + 1) * ROWS);
    found = filter();
    // What is in sight stays as it is while more is read.
    const same = before && before.length === Math.min(ROWS, found.length - at * ROWS)
      && before.every((row, number) => row === found[at * ROWS + number]);
    if (same) {
      const rows = $("rows");
      const kept = [...rows.children];
      show();
      rows.replaceChildren(...kept);
    } else {
      show();
    }
  }

  function turn(by) {
    at += by;
    show();
    $("count").scrollIntoView();
  }

  // Lightbox

  function open(row, number, element) {
    opener = element;
    look(row, number);
    $("lightbox").showModal();
  }

  function look(row, number) {
    shown = { row, number };
    const { name, mark, long } = about(row, number);
    const side = Math.max(SETUP.tile, Math.floor(Math.min(LARGE, innerWidth - 90, innerHeight - 260) / SETUP.tile) * SETUP.tile);
    $("lightbox-name").textContent = number < 0 ? name : `drawn as ${name}`;
    $("lightbox-picture").replaceChildren(picture(row, number, side));
    $("lightbox-note").textContent = long || mark;
    $("lightbox-path").textContent = row[PATH];
    $("lightbox-link").hidden = !row[ORIGINAL];
    $("lightbox-link").href = row[ORIGINAL];
  }

  function step(by) {
    let { row, number } = shown;
    number += by;
    if (number < -1 || number >= row[TILES].length) {
      let place = found.indexOf(row) + by;
      while (found[place] && found[place][STATUS] === FAILED) place += by;
      if (!found[place]) return;
      row = found[place];
      number = by > 0 ? -1 : row[TILES].length - 1;
    }
    look(row, number);
  }

  function options(id, names, values) {
    names.forEach((name, number) => {
      const option = make("option", "", name);
      option.value = values ? values[number] : number;
      $(id).append(option);
    });
  }

  function begin() {
    options("label", SETUP.classes);
    options("target", SETUP.classes);
    options("source", SETUP.sources);
    options("status", SETUP.statuses.slice(0, 3));
    const kinds = Object.keys(SETUP.verdicts);
    options("verdict", kinds.map((kind) => SETUP.verdicts[kind][1]), kinds);
    $("filters").hidden = false;
    $("filters").addEventListener("submit", (event) => event.preventDefault());
    for (const kind of ["input", "reset"]) {
      $("filters").addEventListener(kind, () => setTimeout(() => { at = 0; update(false); }));
    }
    $("back").addEventListener("click", () => turn(-1));
    $("next").addEventListener("click", () => turn(1));
    const lightbox = $("lightbox");
    $("lightbox-back").addEventListener("click", () => step(-1));
    $("lightbox-next").addEventListener("click", () => step(1));
    $("lightbox-close").addEventListener("click", () => lightbox.close());
    lightbox.addEventListener("click", (event) => { if (event.target === lightbox) lightbox.close(); });
    lightbox.addEventListener("close", () => { if (opener) opener.focus(); });
    lightbox.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by) {
        event.preventDefault();
        step(by);
      }
    });
    if (!SETUP.images) update(false);
    else if (!SETUP.inline) load(1);
  }

  begin();
  return { add };
})();
