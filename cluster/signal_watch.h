// Signals as something to poll: while a watch lives, its signals arrive on a descriptor instead of ending the process.
// Works whichever thread the kernel picks, so it asks nothing of the threads of the program around it.
#pragma once
#include <signal.h>

#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/status.h"
#include "cluster/file_descriptor.h"

namespace dtrain {

class SignalWatch {
 public:
  // One watch at a time: kFailedPrecondition if another lives.
  static StatusOr<std::unique_ptr<SignalWatch>> Start(std::span<const int> signals);
  ~SignalWatch();  // puts the handlers back that were there before
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

  int fd() const { return read_.fd(); }  // readable when signals have arrived
  std::vector<int> Take();               // those that have, in order

 private:
  SignalWatch() = default;
  FileDescriptor read_, write_;
  std::vector<std::pair<int, struct sigaction>> before_;
};

}  // namespace dtrain
