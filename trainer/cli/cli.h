// The command line without the ranks: which verb, its words, its exit code. Torch-free, so that help, config and status
// come at once; a verb that computes is handed to the program of the ranks.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "cluster/launcher_environment.h"
#include "cluster/member.h"
#include "cluster/rendezvous.h"
#include "trainer/cli/arguments.h"
#include "trainer/config/config.h"
#include "trainer/training_job.h"

namespace dtrain {

// The program that can be a rank of `train` and has the verbs that compute.
struct RankProgram {
  std::string path;  // it is started with the same words
  // Trains as a rank of the job that `member` is in. Only where this process is that program; else null.
  std::function<Status(const TrainingJob& job, Member& member)> train;
  // cluster/mpi_rendezvous.h, where it was built with MPI.
  std::function<StatusOr<Rendezvous>(const LauncherEnvironment&, const std::function<StatusOr<Rendezvous>()>& host, Deadline)> meet_by_mpi;
  decltype(TrainingJob::mpi_communicator) mpi_communicator;
  std::function<void()> finalize_mpi;
  std::function<StatusOr<std::string>(const LauncherEnvironment&, const std::string& interface)> mpi_listen_host;
};

// Runs the command line and returns the exit code.
int CliMain(std::span<const std::string> words, const RankProgram& rank_program);

// A verb: prints what it has to say; an error carries its exit code.
using VerbFunction = StatusOr<ExitCode> (*)(const Arguments& arguments, const VerbSpec& spec, const RankProgram& rank_program);
struct Verb {
  VerbSpec spec;
  VerbFunction run = nullptr;  // null: the rank program's
};
const std::vector<Verb>& Verbs();

StatusOr<ExitCode> TrainVerb(const Arguments& arguments, const VerbSpec& spec, const RankProgram& rank_program);
StatusOr<ExitCode> BenchVerb(const Arguments& arguments, const VerbSpec& spec, const RankProgram& rank_program);
StatusOr<ExitCode> ConfigVerb(const Arguments& arguments, const VerbSpec& spec, const RankProgram& rank_program);
StatusOr<ExitCode> InspectVerb(const Arguments& arguments, const VerbSpec& spec, const RankProgram& rank_program);
StatusOr<ExitCode> ExportVerb(const Arguments& arguments, const VerbSpec& spec, const RankProgram& rank_program);
StatusOr<ExitCode> RunsVerb(const Arguments& arguments, const VerbSpec& spec, const RankProgram& rank_program);
StatusOr<ExitCode> StatusVerb(const Arguments& arguments, const VerbSpec& spec, const RankProgram& rank_program);
StatusOr<ExitCode> WhyVerb(const Arguments& arguments, const VerbSpec& spec, const RankProgram& rank_program);
StatusOr<ExitCode> SaveVerb(const Arguments& arguments, const VerbSpec& spec, const RankProgram& rank_program);
StatusOr<ExitCode> StopVerb(const Arguments& arguments, const VerbSpec& spec, const RankProgram& rank_program);

// ---- for the verbs

void Print(std::string_view text);
// The configuration file that a verb's first word from `index` on names, with its key=value words.
StatusOr<Config> ConfigOf(const Arguments& arguments, const VerbSpec& spec, size_t index);
// A run by path or by name under runs/. kNotFound names those that there are.
StatusOr<std::string> RunOf(const Arguments& arguments, const VerbSpec& spec, size_t index);
// The checkpoint directory that --checkpoint names in a run: last (default), best, or a step.
StatusOr<std::string> CheckpointOf(const std::string& run, const std::string& which);
// Goes on as `rank_program` with the words that this process was started with; returns only if that cannot be done.
Status HandOver(const RankProgram& rank_program);
// Prints an error as every program of dtrain does; returns its code.
int ReportError(const Status& status, ExitCode otherwise);

}  // namespace dtrain
