#include "tests/sim/sim_storage.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/rng.h"

namespace dtrain {

// A file or a directory, as programs see it and as a power cut would leave it.
struct SimStorage::Node {
  bool directory = false;
  std::map<std::string, NodePointer> entries, durable_entries;
  std::vector<std::byte> data, durable_data;
  bool rewritten = false;  // truncated since the last Sync: durable_data is no prefix of data
};

// `node` leaves (from, from_name) and appears at (to, to_name); one side is absent when it is made or removed.
struct SimStorage::Change {
  NodePointer node;
  NodePointer from, to;
  std::string from_name, to_name;

  void ApplyTo(std::map<std::string, NodePointer> Node::*entries) const {
    if (from != nullptr) {
      auto& names = *from.*entries;
      // Somebody else may stand there if an earlier change was lost.
      if (const auto entry = names.find(from_name); entry != names.end() && entry->second == node) names.erase(entry);
    }
    if (to != nullptr) (*to.*entries)[to_name] = node;
  }
};

namespace {

// "runs//a/./b" -> runs, a, b. Relative and absolute paths have one root.
std::vector<std::string> PartsOf(const std::string& path) {
  std::vector<std::string> parts = Split(path, '/');
  std::erase_if(parts, [](const std::string& part) { return part.empty() || part == "."; });
  return parts;
}

}  // namespace

class SimStorage::SimWritableFile final : public WritableFile {
 public:
  SimWritableFile(SimStorage& storage, NodePointer node, std::string path)
      : storage_(storage), node_(std::move(node)), path_(std::move(path)), power_cuts_(storage.power_cuts_) {}

  Status Append(std::span<const std::byte> bytes) override {
    const std::lock_guard lock(storage_.mutex_);
    RETURN_IF_ERROR(CheckOpen());
    return storage_.AppendTo(*node_, path_, bytes);
  }
  Status Sync() override {
    const std::lock_guard lock(storage_.mutex_);
    RETURN_IF_ERROR(CheckOpen());
    RETURN_IF_ERROR(Annotate(storage_.NextOperation(), Cat("fsync ", path_)));
    node_->durable_data = node_->data;
    node_->rewritten = false;
    return OkStatus();
  }
  Status Close() override {
    const std::lock_guard lock(storage_.mutex_);
    RETURN_IF_ERROR(CheckOpen());
    open_ = false;
    return OkStatus();
  }

 private:
  Status CheckOpen() const {
    RETURN_IF_ERROR(storage_.CheckPower());
    if (!open_ || power_cuts_ != storage_.power_cuts_) return FailedPrecondition("write ", path_, ": the file is closed");
    return OkStatus();
  }

  SimStorage& storage_;
  const NodePointer node_;
  const std::string path_;
  const int64_t power_cuts_;
  bool open_ = true;
};

class SimStorage::SimReadableFile final : public ReadableFile {
 public:
  SimReadableFile(const SimStorage& storage, NodePointer node, std::string path)
      : storage_(storage), node_(std::move(node)), path_(std::move(path)), bytes_(node_->data.size()) {}

  uint64_t bytes() const override { return bytes_; }
  Status ReadAt(uint64_t offset, std::span<std::byte> to) const override {
    const std::lock_guard lock(storage_.mutex_);
    RETURN_IF_ERROR(storage_.CheckPower());
    const uint64_t end = std::min<uint64_t>(node_->data.size(), storage_.reads_end_);
    if (offset > end || to.size() > end - offset) return OutOfRange("read ", path_, ": the file ends at byte ", end);
    std::copy_n(node_->data.begin() + static_cast<std::ptrdiff_t>(offset), to.size(), to.begin());
    return OkStatus();
  }

 private:
  const SimStorage& storage_;
  const NodePointer node_;
  const std::string path_;
  const uint64_t bytes_;
};

SimStorage::SimStorage() : root_(std::make_shared<Node>(Node{.directory = true})) {}
SimStorage::~SimStorage() = default;

Status SimStorage::CheckPower() const { return power_ ? OkStatus() : Unavailable("the power is off"); }

Status SimStorage::NextOperation() {
  RETURN_IF_ERROR(CheckPower());
  const int64_t number = operations_++;
  if (number == crash_at_) {
    power_ = false;
    return Unavailable("the power failed at operation ", number);
  }
  if (const auto failure = failures_.find(number); failure != failures_.end()) return failure->second;
  return OkStatus();
}

SimStorage::NodePointer SimStorage::Find(const std::string& path) const {
  NodePointer node = root_;
  for (const std::string& part : PartsOf(path)) {
    const auto entry = node->entries.find(part);
    if (entry == node->entries.end()) return nullptr;
    node = entry->second;
  }
  return node;
}

StatusOr<SimStorage::NodePointer> SimStorage::FindParent(const std::string& path) const {
  std::vector<std::string> parts = PartsOf(path);
  if (parts.empty()) return InvalidArgument(path, ": this is the root");
  parts.pop_back();
  const NodePointer parent = Find(Join(parts, "/"));
  if (parent == nullptr || !parent->directory) return NotFound(path, ": its directory does not exist");
  return parent;
}

void SimStorage::Record(Change change) {
  change.ApplyTo(&Node::entries);
  pending_.push_back(std::move(change));
}

StatusOr<std::unique_ptr<WritableFile>> SimStorage::OpenToWrite(const std::string& path, bool truncate) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(Annotate(NextOperation(), Cat("create ", path)));
  ASSIGN_OR_RETURN(const NodePointer parent, FindParent(path));
  NodePointer node = Find(path);
  if (node == nullptr) {
    node = std::make_shared<Node>();
    Record({.node = node, .to = parent, .to_name = PartsOf(path).back()});
  } else if (node->directory) {
    return FailedPrecondition("create ", path, ": it is a directory");
  } else if (truncate) {
    node->data.clear();
    node->rewritten = true;
  }
  return std::make_unique<SimWritableFile>(*this, node, path);
}

StatusOr<std::unique_ptr<WritableFile>> SimStorage::Create(const std::string& path) { return OpenToWrite(path, true); }
StatusOr<std::unique_ptr<WritableFile>> SimStorage::OpenAppend(const std::string& path) { return OpenToWrite(path, false); }

Status SimStorage::AppendTo(Node& node, const std::string& path, std::span<const std::byte> bytes) {
  Status status = Annotate(NextOperation(), Cat("write ", path));
  uint64_t fits = status.ok() ? bytes.size() : bytes.size() / 2;
  if (capacity_bytes_ != INT64_MAX) {
    int64_t used = 0;
    const auto add = [&used](const auto& self, const Node& of) -> void {
      used += static_cast<int64_t>(of.data.size());
      for (const auto& [name, entry] : of.entries) self(self, *entry);
    };
    add(add, *root_);
    const auto room = static_cast<uint64_t>(std::max<int64_t>(capacity_bytes_ - used, 0));
    if (fits > room) {
      fits = room;
      if (status.ok()) status = ResourceExhausted("write ", path, ": No space left on device");
    }
  }
  node.data.insert(node.data.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(fits));
  return status;
}

StatusOr<std::unique_ptr<ReadableFile>> SimStorage::Open(const std::string& path) const {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(CheckPower());
  const NodePointer node = Find(path);
  if (node == nullptr) return NotFound("open ", path, ": No such file or directory");
  if (node->directory) return FailedPrecondition("open ", path, ": not a regular file");
  return std::make_unique<SimReadableFile>(*this, node, path);
}

StatusOr<bool> SimStorage::Exists(const std::string& path) const {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(CheckPower());
  return Find(path) != nullptr;
}

StatusOr<std::vector<std::string>> SimStorage::List(const std::string& directory) const {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(CheckPower());
  const NodePointer node = Find(directory);
  if (node == nullptr) return NotFound("list ", directory, ": No such file or directory");
  if (!node->directory) return FailedPrecondition("list ", directory, ": not a directory");
  std::vector<std::string> names;
  for (const auto& [name, entry] : node->entries) names.push_back(name);
  return names;
}

Status SimStorage::CreateDirectories(const std::string& path) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(CheckPower());
  NodePointer node = root_;
  for (const std::string& part : PartsOf(path)) {
    if (!node->entries.contains(part)) {
      RETURN_IF_ERROR(Annotate(NextOperation(), Cat("create directory ", path)));
      Record({.node = std::make_shared<Node>(Node{.directory = true}), .to = node, .to_name = part});
    }
    node = node->entries.at(part);
    if (!node->directory) return FailedPrecondition("create directory ", path, ": ", part, " is a file");
  }
  return OkStatus();
}

Status SimStorage::Rename(const std::string& from, const std::string& to) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(Annotate(NextOperation(), Cat("rename ", from, " to ", to)));
  const NodePointer node = Find(from);
  if (node == nullptr) return NotFound("rename ", from, " to ", to, ": No such file or directory");
  ASSIGN_OR_RETURN(const NodePointer from_parent, FindParent(from));
  ASSIGN_OR_RETURN(const NodePointer to_parent, FindParent(to));
  if (const NodePointer target = Find(to); target != nullptr && (node->directory != target->directory || !target->entries.empty())) {
    return AlreadyExists("rename ", from, " to ", to, ": the target is in the way");
  }
  Record({.node = node, .from = from_parent, .to = to_parent, .from_name = PartsOf(from).back(), .to_name = PartsOf(to).back()});
  return OkStatus();
}

// What is inside goes first, each entry an operation of its own: a crash leaves half of it.
Status SimStorage::Remove(const NodePointer& parent, const std::string& name) {
  const NodePointer node = parent->entries.at(name);
  while (!node->entries.empty()) RETURN_IF_ERROR(Remove(node, node->entries.begin()->first));
  RETURN_IF_ERROR(Annotate(NextOperation(), Cat("remove ", name)));
  Record({.node = node, .from = parent, .from_name = name});
  return OkStatus();
}

Status SimStorage::RemoveAll(const std::string& path) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(CheckPower());
  if (Find(path) == nullptr) return OkStatus();
  ASSIGN_OR_RETURN(const NodePointer parent, FindParent(path));
  return Remove(parent, PartsOf(path).back());
}

Status SimStorage::SyncDirectory(const std::string& path) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(Annotate(NextOperation(), Cat("fsync directory ", path)));
  const NodePointer node = Find(path);
  if (node == nullptr || !node->directory) return NotFound("fsync directory ", path, ": No such directory");
  std::erase_if(pending_, [&](const Change& change) {
    if (change.from != node && change.to != node) return false;
    change.ApplyTo(&Node::durable_entries);
    return true;
  });
  return OkStatus();
}

int64_t SimStorage::operations() const {
  const std::lock_guard lock(mutex_);
  return operations_;
}

void SimStorage::CrashAt(int64_t operation) {
  const std::lock_guard lock(mutex_);
  crash_at_ = operation;
}

void SimStorage::FailAt(int64_t operation, Status failure) {
  const std::lock_guard lock(mutex_);
  failures_[operation] = std::move(failure);
}

void SimStorage::SetCapacity(int64_t bytes) {
  const std::lock_guard lock(mutex_);
  capacity_bytes_ = bytes;
}

void SimStorage::CutReadsAt(uint64_t offset) {
  const std::lock_guard lock(mutex_);
  reads_end_ = offset;
}

void SimStorage::PowerCut(uint64_t seed) {
  const std::lock_guard lock(mutex_);
  Rng rng(seed, RngPurpose::kSynthetic);
  for (const Change& change : pending_) {
    if (rng.Below(2) == 0) change.ApplyTo(&Node::durable_entries);
  }
  pending_.clear();
  const auto recover = [&rng](const auto& self, Node& node) -> void {
    if (node.directory) {
      node.entries = node.durable_entries;
      for (const auto& [name, entry] : node.entries) self(self, *entry);
      return;
    }
    const bool keeps_old = node.rewritten && rng.Below(2) == 0;
    if (!keeps_old) {
      const size_t safe = node.rewritten ? 0 : node.durable_data.size();
      const size_t kept = safe + rng.Below(node.data.size() - safe + 1);
      node.durable_data.assign(node.data.begin(), node.data.begin() + static_cast<std::ptrdiff_t>(kept));
      if (rng.Below(4) == 0)
        std::fill(node.durable_data.begin() + static_cast<std::ptrdiff_t>(safe), node.durable_data.end(), std::byte{0});
    }
    node.data = node.durable_data;
    node.rewritten = false;
  };
  recover(recover, *root_);
  power_ = true;
  crash_at_ = INT64_MAX;
  failures_.clear();
  ++power_cuts_;
}

std::vector<std::byte> SimStorage::Contents(const std::string& path) const {
  const std::lock_guard lock(mutex_);
  const NodePointer node = Find(path);
  DTRAIN_CHECK(node != nullptr && !node->directory);
  return node->data;
}

void SimStorage::SetContents(const std::string& path, std::vector<std::byte> bytes) {
  const std::lock_guard lock(mutex_);
  const NodePointer node = Find(path);
  DTRAIN_CHECK(node != nullptr && !node->directory);
  node->durable_data = bytes;
  node->data = std::move(bytes);
  node->rewritten = false;
}

}  // namespace dtrain
