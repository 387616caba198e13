#include "trainer/report/tables.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/text.h"
#include "trainer/report/fields.h"

namespace dtrain {
namespace {

// Those of PhaseClock, and what people call them.
constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kPhases = {{{"data", "data"},
                                                                                   {"forward_backward", "fwd+bwd"},
                                                                                   {"exchange", "exchange"},
                                                                                   {"optimizer", "optimizer"},
                                                                                   {"evaluate", "evaluate"},
                                                                                   {"save", "save"},
                                                                                   {"other", "other"}}};

// The parts that are not empty, with ", " between.
std::string Comma(std::vector<std::string> parts) {
  std::erase(parts, std::string());
  return Join(parts, ", ");
}

std::string Count(int64_t number, std::string_view one) { return Cat(WithCommas(number), " ", one, number == 1 ? "" : "s"); }

std::string HostText(const Value& start) {
  const auto cores = IntAt(start, "cores");
  return Comma({TextAt(start, "host"), cores ? Count(*cores, "core") : "", TextAt(start, "device")});
}

std::string RanksText(const Value& start) {
  const auto ranks = IntAt(start, "ranks");
  if (!ranks) return "";
  const auto threads = IntAt(start, "threads");
  return Cat(WithCommas(*ranks), threads ? Cat(" with ", Count(*threads, "thread"), *ranks == 1 ? "" : " each") : "");
}

std::string ModelText(const Value& start) {
  const auto parameters = IntAt(start, "model.parameters");
  const auto trainable = IntAt(start, "model.trainable");
  const auto bytes = NumberAt(start, "model.bytes");
  return Comma({TextAt(start, "model.type"),
                parameters ? Cat(Count(*parameters, "parameter"), bytes ? Cat(" (", HumanBytes(*bytes), ")") : "") : "",
                trainable && trainable != parameters ? Cat(WithCommas(*trainable), " trainable") : ""});
}

std::string DataText(const Value& start) {
  const std::string name = TextAt(start, "data.name"), note = TextAt(start, "data.note");
  // The note of a set begins with its name where it has one.
  return note.empty() ? name : note.starts_with(name) ? note : Cat(name, ": ", note);
}

std::string LengthText(const Value& start) {
  const auto total = IntAt(start, "total_steps"), per_epoch = IntAt(start, "steps_per_epoch");
  const auto seconds_max = NumberAt(start, "seconds_max");
  std::string epochs;
  if (per_epoch && *per_epoch > 0) {
    epochs = Cat(Count(*per_epoch, "step"), " an epoch");
    if (total)
      epochs = Cat(ShortNumber(static_cast<double>(*total) / static_cast<double>(*per_epoch)), " epochs of ", Count(*per_epoch, "step"));
  }
  return Comma({total ? Count(*total, "step") : "", std::move(epochs), seconds_max ? Cat("at most ", SecondsText(*seconds_max)) : ""});
}

std::string MemoryText(const Value& start) {
  double sum = 0;
  std::vector<std::string> parts;
  for (const auto* part : {"parameters", "gradients", "slots", "extra"}) {
    const double bytes = NumberAt(start, Cat("memory.", part)).value_or(0);
    if (bytes <= 0) continue;
    sum += bytes;
    parts.push_back(Cat(part, " ", HumanBytes(bytes)));
  }
  return parts.empty() ? "" : Cat(HumanBytes(sum), " a rank: ", Comma(std::move(parts)));
}

std::string Heading(const Value& result, const TextStyle& style) {
  const std::string status = TextAt(result, "status");
  const int64_t steps = IntAt(result, "steps").value_or(0);
  if (status == "done") return style.Green(Cat("Done after ", Count(steps, "step")));
  if (status == "stopped") return style.Yellow(Cat("Stopped after ", Count(steps, "step")));
  return style.Red(Cat(status == "diverged" ? "Diverged" : "Failed", " after ", Count(steps, "step")));
}

// A word for a shell: quoted where it must be.
std::string ShellWord(const std::string& word) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+@%";
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) return word;
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  return quoted + "'";
}

}  // namespace

std::string StartTable(const Value& start, const TextStyle& style) {
  const std::string version = TextAt(start, "version"), torch = TextAt(start, "torch");
  const auto resumed_from = IntAt(start, "resumed_from");
  std::string out = Cat(style.Bold(Printable(Cat("dtrain ", version))), torch.empty() ? "" : Printable(Cat(", LibTorch ", torch)), "\n");
  out += TwoColumns({{"Host", HostText(start)},
                     {"Ranks", RanksText(start)},
                     {"Strategy", TextAt(start, "strategy")},
                     {"Model", ModelText(start)},
                     {"Data", DataText(start)},
                     {"Sampler", TextAt(start, "data.policy")},
                     {"Batch", TextAt(start, "batch")},
                     {"Optimizer", TextAt(start, "optimizer")},
                     {"Length", LengthText(start)},
                     {"Memory", MemoryText(start)},
                     {"Reproducible", BoolAt(start, "reproducible") ? "yes: the same bits on any number of ranks" : ""},
                     {"Files", TextAt(start, "run_directory"), false},
                     {"Resumed", resumed_from ? Cat("from step ", WithCommas(*resumed_from)) : ""}},
                    style);
  return out;
}

std::string EndSummary(const Value& result, const NextCommands& next, const TextStyle& style) {
  const std::string status = TextAt(result, "status");
  const double train_s = NumberAt(result, "train_s").value_or(0), samples_per_s = NumberAt(result, "samples_per_s").value_or(0);
  const int64_t samples = IntAt(result, "samples").value_or(0);
  std::string out = Heading(result, style) + "\n";
  std::vector<TableRow> rows = {{"Metrics", MetricsLine(MapAt(result, "metrics"))},
                                {"Time", train_s > 0 ? SecondsText(train_s) : ""},
                                {"Throughput", samples_per_s > 0 ? Cat(WithCommas(static_cast<int64_t>(std::min(samples_per_s, 1e15))),
                                                                       " samples/s, ", Count(samples, "sample"))
                                                                 : ""},
                                {"Time went to", PhaseLine(MapAt(result, "phases"))},
                                {"Checkpoint", TextAt(result, "checkpoints.last"), false},
                                {"Best", TextAt(result, "checkpoints.best"), false},
                                {"Parameters", TextAt(result, "parameter_hash")}};
  const std::string run = ShellWord(next.run_directory);
  const std::string train = Cat("dtrain train ", ShellWord(next.config), next.ranks > 1 ? Cat(" -n ", next.ranks) : "");
  const bool done = status == "done", saved = !TextAt(result, "checkpoints.last").empty();
  if (!done) rows.push_back({saved ? "Resume" : "Start again", train, false});
  if (done || saved) rows.push_back({"Evaluate", Cat("dtrain eval ", run), false});
  if (done) {
    rows.push_back({"Predict", Cat("dtrain predict ", run, " ..."), false});
    rows.push_back({"Train longer", Cat(train, " train.duration=..."), false});
  }
  return out + TwoColumns(rows, style);
}

std::vector<PhaseShare> PhaseShares(const Value::Map& phases) {
  double total = 0;
  std::array<double, kPhases.size()> seconds = {};
  for (size_t i = 0; i < kPhases.size(); ++i) {
    const auto entry = phases.find(kPhases[i].first);
    if (entry != phases.end()) seconds[i] = std::max(0.0, NumberAt(entry->second, "").value_or(0));
    total += seconds[i];
  }
  std::vector<PhaseShare> shares;
  for (size_t i = 0; i < kPhases.size(); ++i) {
    const double share = total > 0 ? seconds[i] / total : 0;
    if (share >= 0.005) shares.push_back({Cat(kPhases[i].second, " ", Fixed(share * 100, 0), "%"), share});
  }
  return shares;
}

std::string PhaseLine(const Value::Map& phases) {
  std::vector<std::string> texts;
  for (const PhaseShare& share : PhaseShares(phases)) texts.push_back(share.text);
  return Join(texts, ", ");
}

std::string MetricsLine(const Value::Map& metrics) {
  std::vector<std::string> texts;
  for (const auto& [name, value] : metrics) {
    const auto number = NumberAt(value, "");
    texts.push_back(Cat(name, " ", number ? MetricText(*number) : "nan"));
  }
  return Join(texts, ", ");
}

std::optional<double> EtaSeconds(const Value& start, const Value& progress) {
  const auto elapsed_s = NumberAt(progress, "elapsed_s");
  if (!elapsed_s || *elapsed_s < 0) return std::nullopt;
  std::optional<double> eta_s;
  if (const auto seconds_max = NumberAt(start, "seconds_max")) eta_s = std::max(0.0, *seconds_max - *elapsed_s);
  const auto total = NumberAt(start, "total_steps"), step = NumberAt(progress, "step");
  if (total && step) {
    // Doubles: a step from elsewhere may be any integer, and their difference must not overflow.
    const double done = *step - NumberAt(start, "resumed_from").value_or(0);
    if (done > 0) {
      const double by_steps = *elapsed_s / done * std::max(0.0, *total - *step);
      eta_s = eta_s ? std::min(*eta_s, by_steps) : by_steps;
    }
  }
  return eta_s;
}

}  // namespace dtrain
