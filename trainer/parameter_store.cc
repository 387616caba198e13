#include "trainer/parameter_store.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>

#include "base/check.h"
#include "optim/block_sums.h"

namespace dtrain {
namespace {

constexpr size_t kSlotsMax = 4;

HostTensor CopyOut(const TensorInfo& info, const std::string& name, std::span<const float> flat, int64_t offset) {
  HostTensor tensor{{name, info.dtype, info.shape}, {}};
  const auto bytes = std::as_bytes(flat.subspan(offset, info.elements()));
  tensor.bytes.assign(bytes.begin(), bytes.end());
  return tensor;
}

std::string SlotTensorName(const std::string& slot, const std::string& tensor) { return Cat(slot, "/", tensor); }

using TensorsByName = std::map<std::string, const HostTensor*>;

TensorsByName ByName(const std::vector<HostTensor>& tensors) {
  TensorsByName by_name;
  for (const HostTensor& tensor : tensors) by_name[tensor.info.name] = &tensor;
  return by_name;
}

// Removes `name` from `found` and adds to `problems` what is wrong with it.
void Expect(const std::string& name, const TensorInfo& expected, TensorsByName& found, std::vector<std::string>& problems) {
  const auto entry = found.find(name);
  if (entry == found.end()) {
    problems.push_back(Cat(name, ": missing; expected ", TypeAndShapeText(expected)));
    return;
  }
  const TensorInfo& info = entry->second->info;
  if (info.dtype != expected.dtype || info.shape != expected.shape) {
    problems.push_back(Cat(name, ": found ", TypeAndShapeText(info), ", expected ", TypeAndShapeText(expected)));
  }
  DTRAIN_CHECK(static_cast<int64_t>(entry->second->bytes.size()) == info.bytes());
  found.erase(entry);
}

// The part of `tensor`, which lies at `offset` of the flat buffer, that falls into `range`.
void CopyIn(const HostTensor& tensor, int64_t offset, ElementRange range, std::span<float> flat) {
  const int64_t begin = std::max(range.begin, offset), end = std::min(range.end, offset + tensor.info.elements());
  if (begin >= end) return;
  std::memcpy(flat.data() + begin, tensor.bytes.data() + (begin - offset) * sizeof(float), (end - begin) * sizeof(float));
}

}  // namespace

ParameterStore::ParameterStore(FlatBuffers flat, std::vector<std::span<float>> slots, std::shared_ptr<const Optimizer> optimizer,
                               std::vector<GroupOptions> groups)
    : flat_(std::move(flat)), slots_(std::move(slots)), optimizer_(std::move(optimizer)), groups_(std::move(groups)) {
  DTRAIN_CHECK(slots_.size() == optimizer_->slot_names().size() && slots_.size() <= kSlotsMax);
  const auto& entries = flat_.layout.entries;
  for (size_t i = 0; i < entries.size(); ++i) {
    DTRAIN_CHECK(entries[i].group >= 0 && static_cast<size_t>(entries[i].group) < groups_.size());
    const int64_t end = i + 1 < entries.size() ? entries[i + 1].offset : flat_.layout.elements;
    if (!runs_.empty() && runs_.back().group == entries[i].group) {
      runs_.back().range.end = end;
    } else {
      runs_.push_back({{entries[i].offset, end}, entries[i].group});
    }
  }
}

void ParameterStore::Apply(const UpdateScalars& scalars, ElementRange range, std::span<const float> gradients) const {
  DTRAIN_CHECK(static_cast<int64_t>(gradients.size()) == range.size());
  for (const Run& run : runs_) {
    const int64_t begin = std::max(run.range.begin, range.begin), end = std::min(run.range.end, range.end);
    if (begin >= end) continue;
    std::array<std::span<float>, kSlotsMax> slots;
    for (size_t i = 0; i < slots_.size(); ++i) slots[i] = slots_[i].subspan(begin, end - begin);
    optimizer_->Apply(scalars, groups_[run.group], flat_.parameters.subspan(begin, end - begin),
                      gradients.subspan(begin - range.begin, end - begin), std::span(slots).first(slots_.size()));
  }
}

StatusOr<ExchangeState> ParameterStore::Snapshot(Step step, int64_t updates) const {
  for (const FlatEntry& entry : flat_.layout.entries) {
    if (!AllFinite(flat_.parameters.subspan(entry.offset, entry.info.elements()))) {
      return WithHint(DataLoss("take a snapshot before step ", step, ": ", entry.info.name, " holds a number that is not finite"),
                      "lower optim.lr, clip with optim.clip_norm, or set train.nan_policy to skip or roll_back");
    }
  }
  ExchangeState state{.step = step, .updates = updates};
  for (const FlatEntry& entry : flat_.layout.entries) {
    state.model.push_back(CopyOut(entry.info, entry.info.name, flat_.parameters, entry.offset));
    for (size_t slot = 0; slot < slots_.size(); ++slot) {
      state.optimizer.push_back(
          CopyOut(entry.info, SlotTensorName(optimizer_->slot_names()[slot], entry.info.name), slots_[slot], entry.offset));
    }
  }
  for (const FlatEntry& entry : flat_.buffer_layout.entries) {
    state.model.push_back(CopyOut(entry.info, entry.info.name, flat_.buffers, entry.offset));
  }
  return state;
}

Status ParameterStore::Check(const ExchangeState& state) const {
  std::vector<std::string> problems;
  auto model = ByName(state.model), optimizer = ByName(state.optimizer);
  for (const FlatLayout* layout : {&flat_.layout, &flat_.buffer_layout}) {
    for (const FlatEntry& entry : layout->entries) Expect(entry.info.name, entry.info, model, problems);
  }
  if (!optimizer.empty()) {
    for (const FlatEntry& entry : flat_.layout.entries) {
      for (const std::string& slot : optimizer_->slot_names())
        Expect(SlotTensorName(slot, entry.info.name), entry.info, optimizer, problems);
    }
  }
  for (const auto* rest : {&model, &optimizer}) {
    for (const auto& [name, tensor] : *rest) problems.push_back(Cat(name, ": unknown; the model has no such tensor"));
  }
  if (problems.empty()) return OkStatus();
  constexpr size_t kShown = 20;
  const size_t count = problems.size();
  if (count > kShown) {
    problems.resize(kShown);
    problems.push_back(Cat("and ", count - kShown, " more"));
  }
  return WithHint(InvalidArgument("load a state: ", count, count == 1 ? " tensor does" : " tensors do", " not fit the model:\n  ",
                                  Join(problems, "\n  ")),
                  "the model or the optimizer of the configuration differs from the one that was saved");
}

void ParameterStore::Place(const ExchangeState& state, ElementRange range) const {
  const auto model = ByName(state.model), optimizer = ByName(state.optimizer);
  for (const FlatEntry& entry : flat_.layout.entries) {
    CopyIn(*model.at(entry.info.name), entry.offset, range, flat_.parameters);
    if (optimizer.empty()) continue;
    for (size_t slot = 0; slot < slots_.size(); ++slot) {
      CopyIn(*optimizer.at(SlotTensorName(optimizer_->slot_names()[slot], entry.info.name)), entry.offset, range, slots_[slot]);
    }
  }
  if (!optimizer.empty()) return;
  for (size_t slot = 0; slot < slots_.size(); ++slot) {
    const auto part = slots_[slot].subspan(range.begin, range.size());
    std::fill(part.begin(), part.end(), static_cast<float>(optimizer_->slot_initial(static_cast<int>(slot))));
  }
}

void ParameterStore::PlaceBuffers(const ExchangeState& state) const {
  const auto model = ByName(state.model);
  for (const FlatEntry& entry : flat_.buffer_layout.entries) {
    CopyIn(*model.at(entry.info.name), entry.offset, {0, flat_.buffer_layout.elements}, flat_.buffers);
  }
}

}  // namespace dtrain
