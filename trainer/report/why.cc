#include "trainer/report/why.h"

#include <algorithm>
#include <map>

#include "base/text.h"

namespace dtrain {
namespace {

constexpr double kMicrosecond = 1e-6;
constexpr double kWorthALine = 0.03;  // of the time

std::string Percent(double share) { return Cat(static_cast<int>(share * 100 + 0.5), " %"); }
std::string Milliseconds(double seconds) {
  const double ms = seconds * 1000;
  return ms < 10 ? Cat(Fixed(ms, 2), " ms") : Cat(Fixed(ms, 0), " ms");
}
// What a run gains that loses `share` of its time.
std::string Faster(double share) { return Percent(1 / (1 - std::min(share, 0.99)) - 1); }

struct Span {
  std::string name;
  double begin = 0, end = 0;
  int64_t thread = 0;
};

struct RankSteps {
  std::map<int64_t, std::vector<Span>> of_step;
};

double TimeOf(const std::vector<Span>& spans, std::string_view name) {
  double seconds = 0;
  for (const Span& span : spans) seconds += span.name == name ? span.end - span.begin : 0;
  return seconds;
}

double EndOf(const std::vector<Span>& spans, std::string_view name) {
  double end = 0;
  for (const Span& span : spans) end = span.name == name ? std::max(end, span.end) : end;
  return end;
}

bool IsNumber(const Value& value) { return value.if_double() != nullptr || value.if_int() != nullptr; }

std::string WhatToDo(const std::string& phase) {
  if (phase == "data") return "raise data.workers or data.prefetch";
  if (phase == "exchange") return "a larger batch makes the exchange rarer; between hosts see strategy.bucket and strategy.overlap";
  if (phase == "evaluate") return "evaluate less often (eval.every)";
  if (phase == "save") return "save less often (checkpoint.every)";
  if (phase == "optimizer") return "more ranks share the update; a larger batch makes it rarer";
  return "";
}

}  // namespace

StatusOr<TimelineFacts> ReadTimeline(const Value& trace) {
  const auto* events = trace.At("traceEvents").if_list();
  if (events == nullptr) return DataLoss("read the timeline: it has no traceEvents");
  std::map<int64_t, RankSteps> ranks;
  std::map<int64_t, std::string> names;
  for (const Value& event : *events) {
    const auto* pid = event.At("pid").if_int();
    if (pid == nullptr || event.At("name").if_string() == nullptr) return DataLoss("read the timeline: an event has no pid or no name");
    if (event.At("ph") == Value("M")) {
      if (event.At("name") == Value("process_name") && event.At("args.name").if_string() != nullptr)
        names[*pid] = *event.At("args.name").if_string();
      continue;
    }
    if (!IsNumber(event.At("ts")) || !IsNumber(event.At("dur")) || event.At("args.step").if_int() == nullptr ||
        event.At("tid").if_int() == nullptr) {
      return DataLoss("read the timeline: an event lacks ts, dur, tid or args.step");
    }
    const double begin = event.Double("ts", 0) * kMicrosecond;
    ranks[*pid].of_step[event.Int("args.step", 0)].push_back(
        {event.String("name", ""), begin, begin + event.Double("dur", 0) * kMicrosecond, event.Int("tid", 0)});
  }
  TimelineFacts facts;
  for (const auto& [rank, steps] : ranks) {
    TimelineFacts::Rank of_rank{.name = names.contains(rank) ? names[rank] : Cat("rank ", rank)};
    for (const auto& [step, spans] : steps.of_step) {
      double begin = spans.front().begin, end = 0;
      for (const Span& span : spans) begin = std::min(begin, span.begin), end = std::max(end, span.end);
      of_rank.step_s += end - begin;
      of_rank.data_s += TimeOf(spans, "data");
      of_rank.compute_s += TimeOf(spans, "forward_backward");
      of_rank.update_s += TimeOf(spans, "update");
      for (const char* wait : {"wait_for_gradients", "wait_for_sums", "wait_for_updates"}) of_rank.wait_s += TimeOf(spans, wait);
      const double computed = EndOf(spans, "forward_backward");
      for (const Span& span : spans) {
        if (span.name != "bucket") continue;
        of_rank.communicating_s += span.end - span.begin;
        of_rank.hidden_s += std::max(0.0, std::min(span.end, computed) - span.begin);
      }
    }
    const auto count = static_cast<double>(std::max<size_t>(steps.of_step.size(), 1));
    for (double* sum : {&of_rank.step_s, &of_rank.data_s, &of_rank.compute_s, &of_rank.update_s, &of_rank.wait_s, &of_rank.communicating_s,
                        &of_rank.hidden_s}) {
      *sum /= count;
    }
    facts.ranks.push_back(of_rank);
    facts.steps = std::max<int64_t>(facts.steps, static_cast<int64_t>(steps.of_step.size()));
  }
  if (facts.ranks.size() < 2) return facts;
  int64_t compared = 0;
  for (const auto& [step, spans] : ranks.begin()->second.of_step) {
    double first = 0, last = 0;
    size_t who = 0, index = 0;
    bool all = true;
    for (const auto& [rank, steps] : ranks) {
      const auto found = steps.of_step.find(step);
      all = all && found != steps.of_step.end();
      if (!all) break;
      const double end = EndOf(found->second, "forward_backward");
      if (index == 0 || end < first) first = end;
      if (index == 0 || end > last) last = end, who = index;
      ++index;
    }
    if (!all) continue;
    ++facts.ranks[who].last;
    facts.lateness_s += last - first;
    ++compared;
  }
  if (compared > 0) facts.lateness_s /= static_cast<double>(compared);
  return facts;
}

std::vector<std::string> ExplainRun(const Value& result, const TimelineFacts* timeline) {
  std::vector<std::string> lines;
  if (const auto* phases = result.At("phases").if_map(); phases != nullptr) {
    double total = 0;
    std::vector<std::pair<double, std::string>> by_time;
    for (const auto& [name, seconds] : *phases) {
      if (!IsNumber(seconds)) continue;
      by_time.emplace_back(seconds.Double("", 0), name);
      total += by_time.back().first;
    }
    std::ranges::sort(by_time, std::greater<>());
    if (total > 0) {
      std::vector<std::string> parts;
      for (const auto& [seconds, name] : by_time) {
        if (seconds / total >= 0.005) parts.push_back(Cat(name, " ", Percent(seconds / total)));
      }
      lines.push_back(Cat("The run took ", Fixed(total, 1), " s on rank 0: ", Join(parts, ", "), "."));
      for (const auto& [seconds, name] : by_time) {
        const std::string advice = WhatToDo(name);
        if (seconds / total < kWorthALine || advice.empty()) continue;
        lines.push_back(Cat("Without its ", name, " time it would be at most ", Faster(seconds / total), " faster: ", advice, "."));
      }
    }
  }
  if (timeline == nullptr || timeline->ranks.empty()) return lines;
  double step_s = 0, compute_s = 0;
  for (const auto& rank : timeline->ranks) {
    step_s = std::max(step_s, rank.step_s);
    compute_s = std::max(compute_s, rank.compute_s);
  }
  if (step_s <= 0) return lines;
  lines.push_back(Cat("In the ", timeline->steps, " steps of the timeline a step took ", Milliseconds(step_s), "; forward and backward ",
                      Milliseconds(compute_s), " of it on the slowest rank."));
  const auto latest = std::ranges::max_element(timeline->ranks, {}, &TimelineFacts::Rank::last);
  if (timeline->ranks.size() > 1 && timeline->lateness_s / step_s >= kWorthALine) {
    const bool one = latest->last * 3 >= timeline->steps * 2;
    lines.push_back(Cat("The ranks were ready ", Milliseconds(timeline->lateness_s), " apart, ", Percent(timeline->lateness_s / step_s),
                        " of a step; ",
                        one ? Cat("mostly ", latest->name, " came last (", latest->last, " of ", timeline->steps,
                                  "): look for other work on its host, or give it fewer threads' worth of load.")
                            : std::string("no rank was always the last, so it is noise of the machine rather than one slow rank.")));
  }
  double communicating = 0, hidden = 0;
  for (const auto& rank : timeline->ranks) {
    if (rank.communicating_s <= communicating) continue;
    communicating = rank.communicating_s;
    hidden = rank.hidden_s;
  }
  if (communicating > 0) {
    const double exposed = communicating - hidden;
    lines.push_back(Cat("Communication took ", Milliseconds(communicating), " a step, ", Percent(hidden / communicating),
                        " of it behind backward; the rest, ", Milliseconds(exposed), ", is ", Percent(std::min(exposed / step_s, 1.0)),
                        " of a step. A step can hardly be shorter than ", Milliseconds(std::max(communicating, compute_s)),
                        ", the longer of the two."));
  }
  for (const auto& rank : timeline->ranks) {
    if (rank.wait_s / step_s < kWorthALine) continue;
    lines.push_back(Cat(rank.name, " waited ", Percent(rank.wait_s / step_s), " of the time for others."));
  }
  return lines;
}

}  // namespace dtrain
