#include "cluster/launcher_environment.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "cluster/messages.h"

namespace dtrain {
namespace {

constexpr size_t kNodesMax = 65'536;
constexpr size_t kNodeNameBytesMax = 255;
constexpr size_t kDigitsMax = 9;
constexpr int64_t kFirstPort = 12'000, kPorts = 20'000;
constexpr int64_t kSpecialStep = 0xffff'fff0;  // from here on step numbers mean shells, scripts and containers

constexpr const char* kWayOut = "--rendezvous host:port --rank r --world n says it without the environment";

// One launcher's variables; those of a pair that may be absent are null.
struct Names {
  LauncherEnvironment::Kind kind;
  const char *rank, *size, *local_rank, *local_size;
};
constexpr Names kOpenMpi = {LauncherEnvironment::Kind::kOpenMpi, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                            "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"};
constexpr Names kMpich = {LauncherEnvironment::Kind::kMpich, "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"};
constexpr Names kSlurm = {LauncherEnvironment::Kind::kSlurm, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", nullptr};

class Reader {
 public:
  explicit Reader(const LookUp& look_up) : look_up_(look_up) {}

  std::optional<std::string> Text(const char* name) const {
    const char* value = name == nullptr ? nullptr : look_up_(name);
    return value == nullptr || *value == '\0' ? std::nullopt : std::optional<std::string>(value);
  }
  // Nothing if it is not set.
  StatusOr<std::optional<int64_t>> Number(const char* name, int64_t min, int64_t max) const {
    const auto text = Text(name);
    if (!text.has_value()) return std::optional<int64_t>();
    const auto number = ParseInt(*text);
    if (number.has_value() && min <= *number && *number <= max) return number;
    return FailedPrecondition(name, " is \"", *text, "\", expected a whole number from ", min, " to ", max);
  }

  // Nothing if the rank is not set.
  StatusOr<std::optional<LauncherEnvironment>> Read(const Names& names) const {
    ASSIGN_OR_RETURN(const auto rank, Number(names.rank, 0, kRanksMax - 1));
    ASSIGN_OR_RETURN(const auto size, Number(names.size, 1, kRanksMax));
    if (!rank.has_value() && !size.has_value()) return std::optional<LauncherEnvironment>();
    if (!rank.has_value()) return FailedPrecondition(names.size, " is ", *size, ", but ", names.rank, " is not set");
    if (!size.has_value()) return FailedPrecondition(names.rank, " is ", *rank, ", but ", names.size, " is not set");
    if (*rank >= *size) {
      return FailedPrecondition(names.rank, " is ", *rank, ", expected less than ", names.size, ", which is ", *size);
    }
    LauncherEnvironment found{.kind = names.kind, .rank = static_cast<int>(*rank), .world_size = static_cast<int>(*size)};
    ASSIGN_OR_RETURN(const auto local_rank, Number(names.local_rank, 0, kRanksMax - 1));
    ASSIGN_OR_RETURN(const auto local_size, Number(names.local_size, 1, kRanksMax));
    if (local_size.has_value() && *local_size > *size) {
      return FailedPrecondition(names.local_size, " is ", *local_size, ", expected at most ", names.size, ", which is ", *size);
    }
    if (local_rank.has_value() && local_size.has_value() && *local_rank >= *local_size) {
      return FailedPrecondition(names.local_rank, " is ", *local_rank, ", expected less than ", names.local_size, ", which is ",
                                *local_size);
    }
    if (local_rank.has_value() && *local_rank > *rank) {
      return FailedPrecondition(names.local_rank, " is ", *local_rank, ", expected at most ", names.rank, ", which is ", *rank);
    }
    found.local_rank = static_cast<int>(local_rank.value_or(0));
    found.local_size = static_cast<int>(local_size.value_or(found.local_rank + 1));
    return std::optional(found);
  }

 private:
  const LookUp& look_up_;
};

// "2(x3),1": how many tasks node number `node` has. Nothing if it does not say.
std::optional<int64_t> TasksOfNode(std::string_view text, int64_t node) {
  for (const std::string& part : Split(text, ',')) {
    const size_t bracket = part.find("(x");
    const auto tasks = ParseInt(std::string_view(part).substr(0, bracket));
    int64_t times = 1;
    if (bracket != std::string::npos) {
      if (!part.ends_with(')')) return std::nullopt;
      const auto repeated = ParseInt(std::string_view(part).substr(bracket + 2, part.size() - bracket - 3));
      if (!repeated.has_value()) return std::nullopt;
      times = *repeated;
    }
    if (!tasks.has_value() || *tasks < 1 || times < 1) return std::nullopt;
    if (node < times) return tasks;
    node -= times;
  }
  return std::nullopt;
}

StatusOr<std::optional<LauncherEnvironment>> ReadSlurm(const Reader& reader) {
  const std::optional<LauncherEnvironment> none;
  ASSIGN_OR_RETURN(const auto step, reader.Number("SLURM_STEP_ID", 0, INT64_MAX));
  const auto nodes = reader.Text("SLURM_STEP_NODELIST");
  if (!step.has_value() || *step >= kSpecialStep || !nodes.has_value() || !reader.Text(kSlurm.rank).has_value()) return none;
  ASSIGN_OR_RETURN(auto found, reader.Read(kSlurm));
  if (!found.has_value()) return none;
  ASSIGN_OR_RETURN(const auto tasks, reader.Number("SLURM_NTASKS", 1, kRanksMax));
  if (tasks.has_value() && *tasks != found->world_size) {
    return FailedPrecondition("SLURM_NTASKS is ", *tasks, ", but SLURM_STEP_NUM_TASKS is ", found->world_size);
  }
  ASSIGN_OR_RETURN(const auto job, reader.Number("SLURM_JOB_ID", 0, INT64_MAX));
  if (!job.has_value()) return FailedPrecondition("SLURM_STEP_ID is ", *step, ", but SLURM_JOB_ID is not set");
  if (reader.Text("SLURM_DISTRIBUTION") == "arbitrary" && found->world_size > 1) {
    return FailedPrecondition("SLURM_DISTRIBUTION is arbitrary: nothing says on which node task 0 runs");
  }
  ASSIGN_OR_RETURN(const auto node, reader.Number("SLURM_NODEID", 0, kRanksMax));
  if (found->rank == 0 && node.value_or(0) != 0) {
    return FailedPrecondition("SLURM_PROCID is 0, expected on the first node, but SLURM_NODEID is ", *node);
  }
  const auto local = TasksOfNode(reader.Text("SLURM_STEP_TASKS_PER_NODE").value_or(""), node.value_or(0));
  if (local.has_value()) {
    if (found->local_rank >= *local || *local > found->world_size) {
      return FailedPrecondition("SLURM_LOCALID is ", found->local_rank, " of ", found->world_size,
                                " tasks, but SLURM_STEP_TASKS_PER_NODE is ", *reader.Text("SLURM_STEP_TASKS_PER_NODE"));
    }
    found->local_size = static_cast<int>(*local);
  }
  found->node_list = *nodes;
  found->job_id = *job;
  found->step_id = *step;
  return found;
}

StatusOr<std::optional<LauncherEnvironment>> ReadAny(const Reader& reader) {
  ASSIGN_OR_RETURN(auto mpi, reader.Read(kOpenMpi));
  ASSIGN_OR_RETURN(auto mpich, reader.Read(kMpich));
  ASSIGN_OR_RETURN(auto slurm, ReadSlurm(reader));
  if (mpi.has_value() && mpich.has_value() && (mpi->rank != mpich->rank || mpi->world_size != mpich->world_size)) {
    return FailedPrecondition(kOpenMpi.rank, " is ", mpi->rank, " of ", mpi->world_size, ", but ", kMpich.rank, " is ", mpich->rank, " of ",
                              mpich->world_size);
  }
  // srun with a PMI of its own sets PMI_RANK too, to the same.
  const bool same = slurm.has_value() && mpich.has_value() && slurm->rank == mpich->rank && slurm->world_size == mpich->world_size;
  std::optional<LauncherEnvironment> found = mpi.has_value() ? mpi : same ? slurm : mpich.has_value() ? mpich : slurm;
  ASSIGN_OR_RETURN(const auto pmix, reader.Number("PMIX_RANK", 0, kRanksMax - 1));
  if (!pmix.has_value() || !reader.Text("PMIX_NAMESPACE").has_value()) return found;
  if (!found.has_value()) {
    // A task of srun that is the only one, or a shell of it, is no launch whatever PMIx calls it.
    if (reader.Text("SLURM_JOB_ID").has_value()) return found;
    return FailedPrecondition("PMIX_RANK is ", *pmix, ", but nothing says how many ranks there are");
  }
  if (*pmix == found->rank) return found;
  return FailedPrecondition("PMIX_RANK is ", *pmix, ", but ", found->which(), " says that this is rank ", found->rank);
}

// One of the names of a list that is being read: `text` up to here, brackets expanded.
Status Multiply(std::vector<std::string>& names, const std::vector<std::string>& tails) {
  if (names.size() * tails.size() > kNodesMax) return ResourceExhausted("it has more than ", kNodesMax, " names");
  std::vector<std::string> product;
  product.reserve(names.size() * tails.size());
  for (const std::string& name : names) {
    for (const std::string& tail : tails) product.push_back(name + tail);
  }
  names = std::move(product);
  return OkStatus();
}

// "1-3,6": 1, 2, 3, 6, as wide as the range's begin is written.
StatusOr<std::vector<std::string>> ExpandRanges(std::string_view text) {
  std::vector<std::string> numbers;
  for (const std::string& range : Split(text, ',')) {
    const size_t dash = range.find('-');
    const std::string first = range.substr(0, dash), last = dash == std::string::npos ? first : range.substr(dash + 1);
    const auto number = [](const std::string& digits) {
      const bool plain =
          digits.size() <= kDigitsMax && std::all_of(digits.begin(), digits.end(), [](char c) { return '0' <= c && c <= '9'; });
      return plain ? ParseInt(digits) : std::nullopt;
    };
    const auto from = number(first), to = number(last);
    if (!from.has_value() || !to.has_value() || *from > *to) {
      return InvalidArgument("\"", range, "\" in the brackets is no number and no range");
    }
    if (static_cast<size_t>(*to - *from) + numbers.size() >= kNodesMax) return ResourceExhausted("it has more than ", kNodesMax, " names");
    for (int64_t i = *from; i <= *to; ++i) {
      std::string digits = Cat(i);
      if (digits.size() < first.size()) digits.insert(0, first.size() - digits.size(), '0');
      numbers.push_back(std::move(digits));
    }
  }
  return numbers;
}

StatusOr<std::vector<std::string>> Expand(std::string_view list) {
  std::vector<std::string> all;
  while (!list.empty()) {
    std::vector<std::string> names = {""};
    while (!list.empty() && list[0] != ',') {
      const size_t end = std::min(list.find_first_of(",[]"), list.size());
      if (end > 0) {
        RETURN_IF_ERROR(Multiply(names, {std::string(list.substr(0, end))}));
        list.remove_prefix(end);
      } else {
        const size_t close = list.find(']');
        if (list[0] == ']' || close == std::string_view::npos) return InvalidArgument("its brackets do not match");
        ASSIGN_OR_RETURN(const auto numbers, ExpandRanges(list.substr(1, close - 1)));
        RETURN_IF_ERROR(Multiply(names, numbers));
        list.remove_prefix(close + 1);
      }
      if (names[0].size() > kNodeNameBytesMax) return InvalidArgument("it has a name of more than ", kNodeNameBytesMax, " characters");
    }
    if (names[0].empty()) return InvalidArgument("a name in it is empty");
    if (all.size() + names.size() > kNodesMax) return ResourceExhausted("it has more than ", kNodesMax, " names");
    std::move(names.begin(), names.end(), std::back_inserter(all));
    if (list.empty()) break;
    list.remove_prefix(1);
    if (list.empty()) return InvalidArgument("a name in it is empty");
  }
  if (all.empty()) return InvalidArgument("it is empty");
  return all;
}

}  // namespace

std::string LauncherEnvironment::which() const {
  switch (kind) {
    case Kind::kOpenMpi:
      return "mpirun (Open MPI)";
    case Kind::kMpich:
      return "mpiexec (MPICH)";
    case Kind::kSlurm:
      return "srun";
  }
  return "";
}

StatusOr<std::optional<LauncherEnvironment>> ReadLauncherEnvironment() {
  return ReadLauncherEnvironment([](const char* name) { return std::getenv(name); });
}

StatusOr<std::optional<LauncherEnvironment>> ReadLauncherEnvironment(const LookUp& look_up) {
  auto found = ReadAny(Reader(look_up));
  if (!found.ok()) {
    return WithExitCode(WithHint(Annotate(found.status(), "read what started this process from the environment"), kWayOut),
                        ExitCode::kSetUp);
  }
  if (found->has_value() && (*found)->world_size == 1) return std::optional<LauncherEnvironment>();
  return found;
}

StatusOr<std::vector<std::string>> ExpandNodeList(std::string_view list) {
  auto names = Expand(list);
  if (names.ok()) return names;
  return Annotate(names.status(), Cat("expand the node list \"", list.substr(0, 200), "\""));
}

StatusOr<Rendezvous> SlurmRendezvous(const LauncherEnvironment& environment, const std::string& run_directory,
                                     const std::string& interface) {
  const auto make = [&]() -> StatusOr<Rendezvous> {
    ASSIGN_OR_RETURN(const auto nodes, ExpandNodeList(environment.node_list));
    // Neighbouring jobs and the steps of one job lie apart.
    const auto mixed = static_cast<uint64_t>(environment.job_id) * 101 + static_cast<uint64_t>(environment.step_id);
    Rendezvous made{.address = {nodes.front(), static_cast<uint16_t>(kFirstPort + static_cast<int64_t>(mixed % kPorts))},
                    .rank = environment.rank,
                    .world_size = environment.world_size,
                    .run_directory = run_directory,
                    .interface = interface};
    ASSIGN_OR_RETURN(made.token, TokenFromEnvironment());
    return made;
  };
  auto made = make();
  return made.ok() ? made : WithExitCode(Annotate(made.status(), "find rank 0 of the srun step"), ExitCode::kSetUp);
}

}  // namespace dtrain
