#include "trainer/timeline.h"

#include <algorithm>
#include <array>

#include "cluster/messages.h"
#include "trainer/checkpoint/json_value.h"

namespace dtrain {
namespace {

constexpr int kClockRounds = 9;             // the median of so many comparisons
constexpr size_t kTextBytesMax = 64 << 20;  // of a rank's spans in all
constexpr std::array<const char*, 2> kThreadNames = {"compute", "exchange"};

double Microseconds(TimePoint time) { return static_cast<double>(time.time_since_epoch().count()) / 1000; }

// [name, thread, begin, end, step, bucket], times in microseconds of the rank's own clock.
std::string Encode(const std::vector<TraceSpan>& spans) {
  Value::List list;
  for (const TraceSpan& span : spans) {
    list.emplace_back(Value::List{span.name, static_cast<int64_t>(span.thread), Microseconds(span.begin), Microseconds(span.end), span.step,
                                  span.bucket});
  }
  return Value(std::move(list)).ToJson();
}

// Texts of any length by gathers of limited size.
StatusOr<std::vector<std::string>> GatherLong(JobChannel& channel, const std::string& mine, Deadline deadline) {
  std::vector<std::string> whole(static_cast<size_t>(channel.world_size()));
  const size_t part_bytes = std::min(kGatherPartBytesMax, kGatheredBytesMax / whole.size()) - 16;
  for (size_t begin = 0;; begin += part_bytes) {
    // The first character says whether more comes.
    const std::string part = begin < mine.size() ? mine.substr(begin, part_bytes) : "";
    const bool more = begin + part.size() < mine.size();
    ASSIGN_OR_RETURN(const auto parts, channel.AllGather("timeline", (more ? "+" : ".") + part, deadline));
    bool again = false;
    for (size_t rank = 0; rank < parts.size(); ++rank) {
      if (parts[rank].empty()) return DataLoss("gather the timeline: rank ", rank, " said nothing");
      again = again || parts[rank][0] == '+';
      whole[rank] += parts[rank].substr(1);
      if (whole[rank].size() > kTextBytesMax) return ResourceExhausted("gather the timeline: rank ", rank, " has more than 64 MiB of it");
    }
    if (!again) return whole;
  }
}

bool IsNumber(const Value& value) { return value.if_double() != nullptr || value.if_int() != nullptr; }

// [text, integer, number, number, integer, integer]
bool IsSpan(const Value& value) {
  const auto* fields = value.if_list();
  return fields != nullptr && fields->size() == 6 && (*fields)[0].if_string() != nullptr && (*fields)[1].if_int() != nullptr &&
         IsNumber((*fields)[2]) && IsNumber((*fields)[3]) && (*fields)[4].if_int() != nullptr && (*fields)[5].if_int() != nullptr;
}

// A rank's times; empty if they are none.
std::vector<double> Times(const std::string& text) {
  const auto list = ParseJson(text);
  if (!list.ok() || list->if_list() == nullptr || list->if_list()->size() != kClockRounds) return {};
  return std::ranges::all_of(*list->if_list(), IsNumber) ? list->Doubles("") : std::vector<double>();
}

// What to take from each rank's clock to have rank 0's.
StatusOr<std::vector<double>> ClockOffsets(JobChannel& channel, const HostGroup& hosts, Deadline deadline) {
  std::vector<double> offsets(hosts.host_of.size());
  if (hosts.one_host()) return offsets;
  Value::List mine;
  for (int round = 0; round < kClockRounds; ++round) {
    RETURN_IF_ERROR(channel.AllGather("clock", "", deadline).status());
    mine.emplace_back(Microseconds(SystemClock().Now()));
  }
  ASSIGN_OR_RETURN(const auto all, channel.AllGather("clocks", Value(mine).ToJson(), deadline));
  const auto reference = Times(all[0]);
  for (size_t rank = 0; rank < all.size(); ++rank) {
    std::vector<double> differences = Times(all[rank]);
    if (differences.empty()) return DataLoss("compare clocks: rank ", rank, " sent no ", kClockRounds, " times");
    for (size_t i = 0; i < differences.size(); ++i) differences[i] -= reference[i];
    std::ranges::nth_element(differences, differences.begin() + kClockRounds / 2);
    offsets[rank] = differences[kClockRounds / 2];
  }
  return offsets;
}

Value Metadata(const char* kind, size_t rank, int64_t thread, const std::string& name) {
  return Value::Map{
      {"ph", "M"}, {"name", kind}, {"pid", static_cast<int64_t>(rank)}, {"tid", thread}, {"args", Value::Map{{"name", name}}}};
}

}  // namespace

StatusOr<Value> GatherTimeline(JobChannel& channel, const HostGroup& hosts, const std::vector<TraceSpan>& spans, Deadline deadline) {
  ASSIGN_OR_RETURN(const auto offsets, ClockOffsets(channel, hosts, deadline));
  ASSIGN_OR_RETURN(const auto texts, GatherLong(channel, Encode(spans), deadline));
  if (channel.rank() != 0) return Value();
  Value::List events;
  double start = 0;
  bool first = true;
  std::vector<Value::List> of_rank;
  for (size_t rank = 0; rank < texts.size(); ++rank) {
    ASSIGN_OR_RETURN(const Value list, ParseJson(texts[rank]));
    if (list.if_list() == nullptr) return DataLoss("gather the timeline: rank ", rank, " sent no list");
    of_rank.push_back(*list.if_list());
    for (const Value& span : of_rank.back()) {
      if (!IsSpan(span)) return DataLoss("gather the timeline: rank ", rank, " sent a span that is none");
      const double begin = (*span.if_list())[2].Double("", 0) - offsets[rank];
      start = first ? begin : std::min(start, begin);
      first = false;
    }
  }
  for (size_t rank = 0; rank < of_rank.size(); ++rank) {
    events.push_back(Metadata("process_name", rank, 0, Cat("rank ", rank, " on ", hosts.host_of[rank])));
    for (size_t thread = 0; thread < kThreadNames.size(); ++thread) {
      events.push_back(Metadata("thread_name", rank, static_cast<int64_t>(thread), kThreadNames[thread]));
    }
    for (const Value& span : of_rank[rank]) {
      const auto& fields = *span.if_list();
      const double begin = fields[2].Double("", 0), end = fields[3].Double("", 0);
      Value::Map arguments{{"step", fields[4]}};
      if (*fields[5].if_int() >= 0) arguments["bucket"] = fields[5];
      events.emplace_back(Value::Map{{"ph", "X"},
                                     {"cat", "dtrain"},
                                     {"name", fields[0]},
                                     {"pid", static_cast<int64_t>(rank)},
                                     {"tid", fields[1]},
                                     {"ts", begin - offsets[rank] - start},
                                     {"dur", end - begin},
                                     {"args", std::move(arguments)}});
    }
  }
  return Value(Value::Map{{"displayTimeUnit", "ms"}, {"traceEvents", std::move(events)}});
}

}  // namespace dtrain
