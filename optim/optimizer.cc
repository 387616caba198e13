#include "optim/optimizer.h"

#include <array>
#include <cmath>
#include <optional>
#include <utility>

#include "optim/flat_optimizer.h"

namespace dtrain {
namespace {

constexpr std::array<std::pair<std::string_view, OptimizerType>, 5> kNames = {{{"sgd", OptimizerType::kSgd},
                                                                               {"adagrad", OptimizerType::kAdagrad},
                                                                               {"rmsprop", OptimizerType::kRmsprop},
                                                                               {"adam", OptimizerType::kAdam},
                                                                               {"adamw", OptimizerType::kAdamW}}};

std::string_view NameOf(OptimizerType type) {
  for (const auto& [name, known] : kNames) {
    if (known == type) return name;
  }
  return "unknown";
}

// Collects nothing but the first mistake: options come from a checked configuration or from code.
class RangeCheck {
 public:
  explicit RangeCheck(OptimizerType type) : type_(type) {}

  void AtLeastZero(std::string_view option, double found) {
    if (!(found >= 0 && std::isfinite(found))) Blame(option, found, "a number of at least 0");
  }
  void AtLeastZeroBelowOne(std::string_view option, double found) {
    if (!(found >= 0 && found < 1)) Blame(option, found, "at least 0 and below 1");
  }
  void ZeroToOne(std::string_view option, double found) {
    if (!(found >= 0 && found <= 1)) Blame(option, found, "0 to 1");
  }
  template <typename Found>
  void Blame(std::string_view option, const Found& found, std::string_view expected) {
    if (status_.ok()) status_ = InvalidArgument("make optimizer ", NameOf(type_), ": ", option, " is ", found, ", expected ", expected);
  }
  const Status& status() const { return status_; }

 private:
  OptimizerType type_;
  Status status_;
};

Status CheckOptions(const OptimizerOptions& options) {
  RangeCheck check(options.type);
  switch (options.type) {
    case OptimizerType::kSgd:
      check.AtLeastZeroBelowOne("momentum", options.momentum);
      check.ZeroToOne("dampening", options.dampening);
      if (options.nesterov && options.momentum == 0) check.Blame("momentum", options.momentum, "above 0 with nesterov");
      if (options.nesterov && options.dampening != 0) check.Blame("dampening", options.dampening, "0 with nesterov");
      break;
    case OptimizerType::kAdagrad:
      check.AtLeastZero("lr_decay", options.lr_decay);
      check.AtLeastZero("initial_accumulator", options.initial_accumulator);
      check.AtLeastZero("eps", options.eps);
      break;
    case OptimizerType::kRmsprop:
      check.AtLeastZeroBelowOne("momentum", options.momentum);
      check.AtLeastZeroBelowOne("alpha", options.alpha);
      check.AtLeastZero("eps", options.eps);
      break;
    case OptimizerType::kAdam:
    case OptimizerType::kAdamW:
      check.AtLeastZeroBelowOne("beta1", options.beta1);
      check.AtLeastZeroBelowOne("beta2", options.beta2);
      check.AtLeastZero("eps", options.eps);
      break;
  }
  return check.status();
}

}  // namespace

StatusOr<std::unique_ptr<Optimizer>> MakeOptimizer(const OptimizerOptions& options) {
  RETURN_IF_ERROR(CheckOptions(options));
  switch (options.type) {
    case OptimizerType::kSgd:
      return MakeSgd(options);
    case OptimizerType::kAdagrad:
      return MakeAdagrad(options);
    case OptimizerType::kRmsprop:
      return MakeRmsprop(options);
    case OptimizerType::kAdam:
    case OptimizerType::kAdamW:
      return MakeAdam(options);
  }
  return InvalidArgument("make optimizer: type ", static_cast<int>(options.type), " is none, expected 0 to ", kNames.size() - 1);
}

StatusOr<OptimizerType> ParseOptimizerType(std::string_view name) {
  std::vector<std::string> known;
  for (const auto& [known_name, type] : kNames) {
    if (known_name == name) return type;
    known.emplace_back(known_name);
  }
  const Status status = InvalidArgument("read optimizer type: found '", name, "', expected ", Join(known, ", "));
  const auto nearest = Nearest(name, known);
  return nearest ? WithHint(status, Cat("did you mean ", *nearest, "?")) : status;
}

}  // namespace dtrain
