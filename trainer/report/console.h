// What a person sees while a run goes: events in, text out. It writes nothing itself, so a test reads exactly what a
// terminal would get.
//
// live: one line, rewritten in place at most ten times a second; all else is printed above it. plain: a line at most every
// two seconds and at each evaluation, with a second line that says where time goes every twenty. Width is respected: a live line that
// wrapped could not be erased.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/log.h"
#include "base/value.h"
#include "trainer/report/layout.h"
#include "trainer/report/tables.h"

namespace dtrain {

enum class ConsoleMode {
  kLive,
  kPlain,
  kNone,  // start table, warnings and end summary only
};

struct ConsoleOptions {
  ConsoleMode mode = ConsoleMode::kPlain;
  bool quiet = false;  // warnings and errors only
  LogLevel level = LogLevel::kInfo;
  TextStyle style;
};

// Options for `log.console` ("auto", "live", "plain", "none") and a descriptor: live and colours on a terminal only,
// colours not with NO_COLOR (no-color.org), neither with TERM=dumb.
ConsoleOptions ChooseConsole(std::string_view word, int descriptor);
int TerminalWidth(int descriptor);  // 80 if it is no terminal

class Console {
 public:
  explicit Console(const ConsoleOptions& options) : options_(options) {}

  // Each returns what to write now, often nothing. `event` is one of trainer/report/README.md; others are passed over.
  std::string OnEvent(const Value& event, TimePoint now);
  // A whole line of a rank's output, above the live line.
  std::string Print(std::string_view line);
  // Call a few times a second: shows progress that came too soon after the last.
  std::string Tick(TimePoint now);
  // Erases the live line and prints a message of that severity.
  std::string Say(LogLevel level, std::string_view message);
  // The end: shows the last progress (plain), then `summary`.
  std::string End(std::string_view summary);

  void SetWidth(int width) { options_.style.width = width; }
  const ConsoleOptions& options() const { return options_; }

 private:
  std::string Above(std::string_view text);  // whole lines, above the live line
  std::string ShowProgress(TimePoint now, bool shares);
  std::string LiveLine() const;
  std::string PlainLines(bool shares) const;

  ConsoleOptions options_;
  Value start_, progress_;
  bool pending_ = false;  // progress_ was not shown yet
  bool ended_ = false;
  std::optional<TimePoint> shown_at_, shares_at_;
  std::string live_line_;  // what stands on the terminal's last line; empty if nothing
};

}  // namespace dtrain
