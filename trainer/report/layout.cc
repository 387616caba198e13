#include "trainer/report/layout.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/text.h"

namespace dtrain {
namespace {

bool StartsCodePoint(char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }

// The byte at which column `columns` begins.
size_t ByteAt(std::string_view text, size_t columns) {
  size_t at = 0;
  while (at < text.size()) {
    if (StartsCodePoint(text[at]) && columns-- == 0) return at;
    ++at;
  }
  return at;
}

}  // namespace

std::string TextStyle::Paint(std::string_view code, std::string_view text) const {
  return colours ? Cat("\x1b[", code, "m", text, "\x1b[0m") : std::string(text);
}

size_t Columns(std::string_view text) { return static_cast<size_t>(std::count_if(text.begin(), text.end(), StartsCodePoint)); }

std::string Clip(std::string_view text, size_t columns) {
  if (Columns(text) <= columns) return std::string(text);
  if (columns <= 3) return std::string(text.substr(0, ByteAt(text, columns)));
  return Cat(text.substr(0, ByteAt(text, columns - 3)), "...");
}

std::string Pad(std::string_view text, size_t columns) { return Cat(text, std::string(columns - std::min(columns, Columns(text)), ' ')); }

std::string PadLeft(std::string_view text, size_t columns) {
  return Cat(std::string(columns - std::min(columns, Columns(text)), ' '), text);
}

std::string Printable(std::string_view text, bool lines) {
  std::string printable(text);
  for (char& c : printable) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 || byte == 0x7F) && !(lines && c == '\n')) c = ' ';
  }
  return printable;
}

std::vector<std::string> Wrap(std::string_view text, size_t columns) {
  if (columns == 0) return {std::string(text)};
  std::vector<std::string> lines(1);
  size_t used = 0;
  for (const std::string& word : Split(text, ' ')) {
    const size_t width = Columns(word);
    if (used > 0 && used + 1 + width > columns) {
      lines.emplace_back();
      used = 0;
    }
    if (used > 0) {
      lines.back() += ' ';
      ++used;
    }
    lines.back() += word;
    used += width;
  }
  return lines;
}

std::string TwoColumns(const std::vector<TableRow>& rows, const TextStyle& style) {
  size_t label_columns = 0;
  for (const TableRow& row : rows) {
    if (!row.text.empty()) label_columns = std::max(label_columns, Columns(row.label));
  }
  const size_t indent = 2 + label_columns + 2;
  const size_t width = static_cast<size_t>(std::max(style.width, 0));
  // On a terminal too narrow for anything the text gets 20 columns all the same.
  const size_t text_columns = width == 0 ? 0 : std::max<size_t>(width > indent ? width - indent : 0, 20);
  std::string out;
  for (const TableRow& row : rows) {
    if (row.text.empty()) continue;
    out += Cat("  ", style.Dim(Pad(row.label, label_columns)), "  ");
    const std::vector<std::string> lines = Wrap(Printable(row.text), row.wrap ? text_columns : 0);
    for (size_t i = 0; i < lines.size(); ++i) out += Cat(std::string(i == 0 ? 0 : indent, ' '), lines[i], "\n");
  }
  return out;
}

std::string MetricText(double number) {
  const double size = std::abs(number);
  return size == 0 || (size >= 0.001 && size < 10'000) ? Fixed(number, 4) : ShortNumber(number);
}

std::string SecondsText(double seconds) { return HumanSeconds(std::clamp(seconds, 0.0, 1e12)); }

std::string ShortNumber(double number) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", number);
  return text;
}

}  // namespace dtrain
