// result.json: how a run ended, for scripts. Its keys are a contract:
//   status         done | stopped | failed | diverged      (stopped: the same command goes on)
//   exit_code      base/status.h
//   steps, updates, samples, world_size                    integers >= 0
//   train_s, samples_per_s                                 numbers >= 0
//   phases         {name: seconds}                         metrics   {name: number, or null for NaN}
//   parameter_hash text or null                            checkpoints {last: text or null, best: text or null}
//   error          text or null
// More keys may stand beside these: finished_at (seconds since 1970), run.
#pragma once
#include <string>
#include <string_view>

#include "base/status.h"
#include "base/storage.h"
#include "base/value.h"

namespace dtrain {

// "done", "stopped", "failed" or "diverged".
std::string_view ResultStatus(ExitCode code);

// A result with every key of the contract: from `facts` (rank 0's closing event, or what was known when a rank failed)
// where they are there and of the right type, else zero, empty or null. `error` is the message of a failure, else empty.
Value MakeResult(const Value& facts, ExitCode code, std::string_view error);

// OK if `result` keeps the contract; kDataLoss says which key does not.
Status CheckResult(const Value& result);

// Atomically. kInvalidArgument, and nothing written, for a result that breaks the contract.
Status WriteResult(Storage& storage, const std::string& path, const Value& result);

// kNotFound if there is none, kDataLoss if it is not one that WriteResult wrote.
StatusOr<Value> ReadResult(const Storage& storage, const std::string& path);

}  // namespace dtrain
