// What a run says at its beginning and at its end, and the words both share with its progress. Pure functions of the
// events (trainer/report/README.md) and of result.json; whatever is missing or of another type is left out.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/value.h"
#include "trainer/report/layout.h"

namespace dtrain {

// Version, host, ranks, model, data, batch, optimizer, length, memory, where files go, what is resumed.
std::string StartTable(const Value& start, const TextStyle& style);

// What the next commands are made of.
struct NextCommands {
  std::string run_directory;  // "runs/quickstart"
  std::string config;         // "configs/quickstart.yaml"
  int64_t ranks = 1;
};

// Of a result.json: how it ended, metrics, time and throughput, where time went, checkpoint, parameter hash, and what to do
// next. Also what a finished run prints when it is started again.
std::string EndSummary(const Value& result, const NextCommands& next, const TextStyle& style);

// Share of each phase in percent, in the order of PhaseClock, without those under half a percent:
// {"data 2%", "fwd+bwd 71%", ...}. Empty if there is no time yet.
struct PhaseShare {
  std::string text;
  double share = 0;
};
std::vector<PhaseShare> PhaseShares(const Value::Map& phases);
std::string PhaseLine(const Value::Map& phases);  // joined by ", "

// "valid_accuracy 0.9722, valid_loss 0.1234"
std::string MetricsLine(const Value::Map& metrics);

// Seconds until the end, from the mean time of this process's steps; the sooner of steps and time limit. Nothing if the
// progress says nothing yet or there is no end.
std::optional<double> EtaSeconds(const Value& start, const Value& progress);

}  // namespace dtrain
