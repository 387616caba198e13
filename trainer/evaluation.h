// What an evaluation counts, added up over batches and ranks without rounding, so that its metrics do not depend on how
// the samples were shared out. Pure values.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/value.h"

namespace dtrain {

// A sum of doubles that does not depend on their order: each is rounded once to a multiple of 2^-40, then added as an
// integer. Holds sums up to 2^86; what is larger, or not finite, makes the sum NaN for good.
class ExactSum {
 public:
  void Add(double value);
  void Add(const ExactSum& other);
  double value() const;

  // As words on the wire: high, low half, and whether it is still a number.
  int64_t high() const { return static_cast<int64_t>(units_ >> 64); }
  uint64_t low() const { return static_cast<uint64_t>(units_); }
  bool finite() const { return finite_; }
  static ExactSum FromWords(int64_t high, uint64_t low, bool finite);

 private:
  __int128 units_ = 0;
  bool finite_ = true;
};

struct EvaluationTotals {
  ExactSum loss, weight;
  int64_t correct = 0, samples = 0;

  void Add(const EvaluationTotals& other);
  std::string Encode() const;
  // kDataLoss for bytes that Encode did not write.
  static StatusOr<EvaluationTotals> Decode(std::string_view bytes);

  // {valid_loss, valid_accuracy (a fraction, for classes only)}.
  Value Metrics(const std::string& prefix, bool has_accuracy) const;
};

// When to end because a metric no longer improves. The same answer on every rank, since all see the same metrics.
struct EarlyStop {
  std::string metric;  // empty: never
  bool larger_is_better = true;
  int64_t patience = 3;
  double best = 0;
  int64_t evaluations_without_gain = 0;
  bool has_best = false;

  // Takes the metrics of an evaluation; true if `patience` of them in a row brought nothing.
  bool Take(const Value& metrics);
  Value Save() const;
  void Restore(const Value& saved);  // what Save gave; a null value is a fresh start
};

}  // namespace dtrain
