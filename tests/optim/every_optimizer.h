// Every combination of the options that change what an update does, with the name it shows under.
#pragma once
#include <string>
#include <vector>

#include "base/text.h"
#include "optim/optimizer.h"

namespace dtrain {

struct OptimizerCase {
  std::string name;
  OptimizerOptions options;
  double weight_decay = 0;
};

inline std::vector<OptimizerCase> EveryOptimizer() {
  std::vector<OptimizerCase> cases;
  for (const double decay : {0.0, 0.05}) {
    const auto add = [&](std::string name, const OptimizerOptions& options) {
      cases.push_back({Cat(name, decay > 0 ? "_decay" : ""), options, decay});
    };
    add("sgd", {});
    add("sgd_momentum", {.momentum = 0.9});
    add("sgd_momentum_dampening", {.momentum = 0.9, .dampening = 0.3});
    add("sgd_nesterov", {.momentum = 0.9, .nesterov = true});
    for (const double lr_decay : {0.0, 0.02}) {
      for (const double initial : {0.0, 0.1}) {
        add(Cat("adagrad", lr_decay > 0 ? "_lr_decay" : "", initial > 0 ? "_initial" : ""),
            {.type = OptimizerType::kAdagrad, .eps = 1e-10, .lr_decay = lr_decay, .initial_accumulator = initial});
      }
    }
    for (const double momentum : {0.0, 0.9}) {
      for (const bool centered : {false, true}) {
        add(Cat("rmsprop", momentum > 0 ? "_momentum" : "", centered ? "_centered" : ""),
            {.type = OptimizerType::kRmsprop, .momentum = momentum, .centered = centered});
      }
    }
    for (const bool amsgrad : {false, true}) {
      add(Cat("adam", amsgrad ? "_amsgrad" : ""), {.type = OptimizerType::kAdam, .beta1 = 0.8, .beta2 = 0.95, .amsgrad = amsgrad});
      add(Cat("adamw", amsgrad ? "_amsgrad" : ""), {.type = OptimizerType::kAdamW, .beta1 = 0.8, .beta2 = 0.95, .amsgrad = amsgrad});
    }
  }
  return cases;
}

}  // namespace dtrain
