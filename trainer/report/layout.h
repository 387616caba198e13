// Text in columns for a terminal: widths, wrapping, tables, colours. Pure functions.
// A column is a code point: accents are right, double-width letters count as one.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain {

struct TextStyle {
  int width = 80;  // columns; 0: unlimited
  bool colours = false;

  std::string Bold(std::string_view text) const { return Paint("1", text); }
  std::string Dim(std::string_view text) const { return Paint("2", text); }
  std::string Red(std::string_view text) const { return Paint("31", text); }
  std::string Green(std::string_view text) const { return Paint("32", text); }
  std::string Yellow(std::string_view text) const { return Paint("33", text); }

 private:
  std::string Paint(std::string_view code, std::string_view text) const;
};

size_t Columns(std::string_view text);                       // of plain text, without escapes
std::string Clip(std::string_view text, size_t columns);     // the first columns; "..." at the end where cut
std::string Pad(std::string_view text, size_t columns);      // spaces behind
std::string PadLeft(std::string_view text, size_t columns);  // spaces before
// Control characters as spaces, so that a name from elsewhere cannot move the cursor. Newlines stay if `lines`.
std::string Printable(std::string_view text, bool lines = false);

// Lines of at most `columns` (0: one line), cut at spaces. A longer word has a line of its own, uncut, so that paths and
// hashes can be copied.
std::vector<std::string> Wrap(std::string_view text, size_t columns);

// "  Label   text", labels aligned, texts wrapped under themselves, but not those to be copied (commands, paths). Rows with
// empty text are left out.
struct TableRow {
  std::string label, text;
  bool wrap = true;
};
std::string TwoColumns(const std::vector<TableRow>& rows, const TextStyle& style);

// Four decimals for what is of everyday size, else four significant digits: 0.9722, 12.5000, 3.1e-06.
std::string MetricText(double number);
std::string SecondsText(double seconds);  // HumanSeconds, safe for a number from elsewhere: negative is 0
std::string ShortNumber(double number);   // four significant digits, no trailing zeros: 0.05, 1234, 3.1e-06

}  // namespace dtrain
