#include "trainer/report/console.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "base/text.h"
#include "trainer/report/fields.h"

namespace dtrain {
namespace {

constexpr Duration kPlainEvery = std::chrono::seconds(2);
constexpr Duration kSharesEvery = std::chrono::seconds(20);  // of the second, plain line that says where time goes
constexpr Duration kLiveEvery = std::chrono::milliseconds(100);
constexpr std::string_view kErase = "\r\x1b[2K";  // to the first column, erase the line

// A part of the progress line; the least important leave first where the line is too narrow.
struct Piece {
  std::string text;
  double importance;
};

std::string StepText(const Value& start, int64_t step) {
  const auto total = IntAt(start, "total_steps");
  return Cat("step ", WithCommas(step), total ? Cat("/", WithCommas(*total)) : "");
}

// The share of the run that is done: by steps or by time, whatever is nearer to the end.
std::optional<double> ShareDone(const Value& start, const Value& progress) {
  double share = -1;
  const auto ratio = [&](std::optional<double> part, std::optional<double> whole) {
    if (part && whole && *whole > 0) share = std::max(share, *part / *whole);
  };
  ratio(NumberAt(progress, "step"), NumberAt(start, "total_steps"));
  ratio(NumberAt(progress, "elapsed_s"), NumberAt(start, "seconds_max"));
  return share < 0 ? std::nullopt : std::optional(std::min(share, 1.0));
}

std::vector<Piece> ProgressPieces(const Value& start, const Value& progress) {
  std::vector<Piece> pieces;
  pieces.push_back({StepText(start, IntAt(progress, "step").value_or(0)), 10});
  // Rounded down: 100% is said of what is done.
  if (const auto share = ShareDone(start, progress)) pieces.push_back({Cat(static_cast<int>(*share * 100), "%"), 6});
  if (const auto epoch = NumberAt(progress, "epoch")) pieces.push_back({Cat("epoch ", Fixed(*epoch, 2)), 4});
  const auto samples_per_s = NumberAt(progress, "samples_per_s");
  if (samples_per_s && *samples_per_s > 0) {
    pieces.push_back({Cat(WithCommas(static_cast<int64_t>(std::min(*samples_per_s, 1e15))), " samples/s"), 8});
  }
  const auto loss = NumberAt(progress, "loss");
  pieces.push_back({Cat("loss ", loss ? MetricText(*loss) : "nan"), 9});
  if (const auto rate = NumberAt(progress, "learning_rate")) pieces.push_back({Cat("lr ", ShortNumber(*rate)), 5});
  if (const auto eta_s = EtaSeconds(start, progress); eta_s && *eta_s > 0) {
    const std::string text = *eta_s < 1 ? "<1 s" : *eta_s < 60 ? Cat(Fixed(*eta_s, 0), " s") : SecondsText(*eta_s);
    pieces.push_back({Cat("ETA ", text), 7});
  }
  return pieces;
}

std::string TwoSpaces(const std::vector<Piece>& pieces) {
  std::string line;
  for (const Piece& piece : pieces) line += Cat(line.empty() ? "" : "  ", piece.text);
  return line;
}

// `text` wrapped, what follows the first line indented; its first `bold` bytes are bold.
std::string Indented(const std::string& text, size_t bold, const TextStyle& style) {
  const size_t columns = style.width <= 0 ? 0 : static_cast<size_t>(std::max(style.width - 2, 20));
  std::string out;
  for (const std::string& line : Wrap(text, columns)) {
    if (out.empty()) {
      out = Cat(style.Bold(line.substr(0, bold)), line.substr(std::min(bold, line.size())), "\n");
    } else {
      out += Cat("  ", line, "\n");
    }
  }
  return out;
}

LogLevel LevelOf(std::string_view event) { return event == "warning" ? LogLevel::kWarning : LogLevel::kInfo; }

}  // namespace

ConsoleOptions ChooseConsole(std::string_view word, int descriptor) {
  ConsoleOptions options;
  const char* no_color = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  const bool can_move = ::isatty(descriptor) == 1 && terminal != nullptr && std::string_view(terminal) != "dumb";
  options.mode = word == "none"                                   ? ConsoleMode::kNone
                 : word == "live" || (word == "auto" && can_move) ? ConsoleMode::kLive
                                                                  : ConsoleMode::kPlain;
  options.style.colours = can_move && (no_color == nullptr || *no_color == '\0');
  options.style.width = TerminalWidth(descriptor);
  return options;
}

int TerminalWidth(int descriptor) {
  winsize size = {};
  return ::ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::string Console::Above(std::string_view text) {
  if (live_line_.empty()) return std::string(text);
  return Cat(kErase, text, live_line_);
}

std::string Console::Print(std::string_view line) {
  if (options_.quiet) return "";
  // A carriage return of a progress bar in a rank would write over our line: of each only the last state stands.
  while (line.ends_with('\r')) line.remove_suffix(1);
  if (const size_t back = line.rfind('\r'); back != std::string_view::npos) line.remove_prefix(back + 1);
  return Above(Cat(line, "\n"));
}

std::string Console::Say(LogLevel level, std::string_view message) {
  if (level < (options_.quiet ? std::max(options_.level, LogLevel::kWarning) : options_.level)) return "";
  const TextStyle& style = options_.style;
  std::string prefix;
  if (level == LogLevel::kWarning) prefix = style.Yellow("warning:") + " ";
  if (level == LogLevel::kError) prefix = style.Red("error:") + " ";
  return Above(Cat(prefix, Printable(message, true), "\n"));
}

std::string Console::OnEvent(const Value& event, TimePoint now) {
  const std::string kind = TextAt(event, "event");
  if (kind == "note" || kind == "warning") return Say(LevelOf(kind), TextAt(event, "text"));
  if (kind == "start") start_ = event;
  if (kind == "progress") {
    progress_ = event;
    pending_ = true;
  }
  if (options_.quiet) return "";
  if (kind == "start") return Above(StartTable(event, options_.style) + "\n");
  if (options_.mode == ConsoleMode::kNone) return "";
  if (kind == "progress") return Tick(now);

  const int64_t step = IntAt(event, "step").value_or(0);
  std::string line;
  if (kind == "evaluation") {
    const auto seconds = NumberAt(event, "seconds");
    line = Cat("evaluation at step ", WithCommas(step), ": ", Printable(MetricsLine(MapAt(event, "metrics"))),
               seconds ? Cat(" (", SecondsText(*seconds), ")") : "");
  } else if (kind == "checkpoint") {
    const auto bytes = NumberAt(event, "bytes"), pause_s = NumberAt(event, "pause_s"), write_s = NumberAt(event, "write_s");
    const std::string path = TextAt(event, "path");
    line = Cat("checkpoint ", Printable(path.substr(path.rfind('/') + 1)), bytes ? Cat(": ", HumanBytes(*bytes)) : "",
               pause_s ? Cat(", training paused ", SecondsText(*pause_s)) : "", write_s ? Cat(", written in ", SecondsText(*write_s)) : "");
  } else {
    return "";
  }
  std::string out = options_.mode == ConsoleMode::kPlain && kind == "evaluation" ? ShowProgress(now, true) : "";
  return out + Above(Indented(line, kind.size(), options_.style));
}

std::string Console::Tick(TimePoint now) {
  if (!pending_ || ended_ || options_.quiet || options_.mode == ConsoleMode::kNone) return "";
  const Duration every = options_.mode == ConsoleMode::kLive ? kLiveEvery : kPlainEvery;
  if (shown_at_ && now - *shown_at_ < every) return "";
  return ShowProgress(now, !shares_at_ || now - *shares_at_ >= kSharesEvery);
}

std::string Console::ShowProgress(TimePoint now, bool shares) {
  if (!pending_) return "";
  pending_ = false;
  shown_at_ = now;
  if (options_.mode == ConsoleMode::kPlain) {
    if (shares) shares_at_ = now;
    return PlainLines(shares);
  }
  live_line_ = LiveLine();
  return Cat(kErase, live_line_);
}

std::string Console::LiveLine() const {
  std::vector<Piece> pieces = ProgressPieces(start_, progress_);
  for (PhaseShare& share : PhaseShares(MapAt(progress_, "phases"))) pieces.push_back({std::move(share.text), share.share});
  // The last column stays free: some terminals wrap as soon as it is written.
  const size_t columns = options_.style.width == 0 ? SIZE_MAX : static_cast<size_t>(std::max(options_.style.width - 1, 1));
  while (pieces.size() > 1 && Columns(TwoSpaces(pieces)) > columns) {
    pieces.erase(std::ranges::min_element(pieces, {}, &Piece::importance));
  }
  return Clip(TwoSpaces(pieces), columns);
}

std::string Console::PlainLines(bool shares) const {
  const size_t width = static_cast<size_t>(std::max(options_.style.width, 0));
  const std::vector<Piece> pieces = ProgressPieces(start_, progress_);
  std::string out, line;
  for (const Piece& piece : pieces) {
    if (!line.empty() && width > 0 && Columns(line) + 2 + Columns(piece.text) > width) {
      out += line + "\n";
      line = " ";  // with the two spaces between pieces the indent of what follows
    }
    line += Cat(line.empty() ? "" : line == " " ? " " : "  ", piece.text);
  }
  out += line + "\n";
  const std::string phases = PhaseLine(MapAt(progress_, "phases"));
  if (shares && !phases.empty()) {
    for (const std::string& part : Wrap(phases, width < 2 ? 0 : width - 2)) out += Cat("  ", part, "\n");
  }
  return out;
}

std::string Console::End(std::string_view summary) {
  std::string out;
  if (!live_line_.empty()) out += kErase;
  live_line_.clear();
  // The summary says where time went; of a short run the last progress is the only one.
  if (options_.mode == ConsoleMode::kPlain && !options_.quiet && pending_) out += PlainLines(false);
  pending_ = false;
  ended_ = true;
  if (!options_.quiet) out += summary;
  return out;
}

}  // namespace dtrain
