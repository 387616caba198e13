#include "trainer/cli/cli.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "trainer/checkpoint/checkpoint_store.h"
#include "trainer/report/layout.h"
#include "trainer/report/result.h"
#include "trainer/report/run_directory.h"
#include "trainer/storage/posix_storage.h"
#include "trainer/version.h"

namespace dtrain {
namespace {

std::vector<std::string>& StartedWith() {
  static std::vector<std::string> words;
  return words;
}

std::string Help() {
  std::string text = Cat("dtrain ", kVersion, ": distributed training of LibTorch models\n\nUsage: dtrain VERB ...\n\n");
  for (const Verb& verb : Verbs()) text += Cat("  ", Pad(verb.spec.name, 9), verb.spec.about.substr(0, verb.spec.about.find('\n')), "\n");
  text +=
      "\ndtrain VERB --help says more. First steps:\n"
      "  dtrain train configs/quickstart.yaml -n 2\n"
      "  dtrain config keys            every key of a configuration\n"
      "\nExit codes: 0 done, 2 usage, 3 configuration, 4 set-up, 5 a rank failed, 6 diverged, 75 stopped and resumable.\n";
  return text;
}

}  // namespace

Status HandOver(const RankProgram& rank_program) {
  std::vector<std::string> copies = {rank_program.path};
  copies.insert(copies.end(), StartedWith().begin(), StartedWith().end());
  std::vector<char*> pointers;
  for (std::string& word : copies) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  execv(rank_program.path.c_str(), pointers.data());
  return WithExitCode(
      WithHint(NotFound("start ", rank_program.path, ": ", std::strerror(errno)), "build it, or run dtrain through scripts/dtrain"),
      ExitCode::kSetUp);
}

void Print(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

int ReportError(const Status& status, ExitCode otherwise) {
  std::fflush(stdout);
  const bool colour = isatty(STDERR_FILENO) != 0 && std::getenv("NO_COLOR") == nullptr;
  const std::string text = Cat(TextStyle{.colours = colour}.Red("error: "), Message(status), "\n");
  std::fwrite(text.data(), 1, text.size(), stderr);
  return static_cast<int>(ExitCodeOf(status, otherwise));
}

const std::vector<Verb>& Verbs() {
  static const std::vector<Verb> verbs = {
      {{"train",
        "CONFIG [key=value ...] [-n N]",
        "Train what a configuration says; the same command again goes on where it stopped.\n"
        "Writes everything to runs/NAME. SIGTERM or Ctrl-C saves at the end of the step and exits with 75.",
        {{"n,ranks", "N", "Processes on this host that share the work (default 1)"},
         {"fresh", "", "Start anew; an earlier run of that name is moved aside"},
         {"init-from", "PATH", "Start from these tensors: a .safetensors file, a checkpoint or a run"},
         {"init-names", "A=B,...", "With --init-from: names in the file = names of the model"},
         {"dry-run", "", "Do everything but a step: data, memory, disk, plan"},
         {"rendezvous", "HOST:PORT",
          "Be one rank of a job on several hosts; rank 0 listens here. Token: DTRAIN_TOKEN or DTRAIN_TOKEN_FILE"},
         {"rank", "R", "With --rendezvous: this rank"},
         {"world", "N", "With --rendezvous: how many ranks there are"}},
        "  dtrain train configs/quickstart.yaml -n 2\n  dtrain train configs/fashion_mlp.yaml optim.lr=0.01 run.name=faster\n"
        "  dtrain train configs/quickstart.yaml --rendezvous node1:29500 --rank 0 --world 2\n"},
       TrainVerb},
      {{"eval",
        "RUN [key=value ...]",
        "Evaluate a checkpoint of a run on its held-out samples.",
        {{"checkpoint", "WHICH", "last (default), best, or a step"}},
        "  dtrain eval runs/quickstart --checkpoint best\n"}},
      {{"predict",
        "RUN [key=value ...]",
        "Print a model's predictions, one line a sample: number, prediction, probability, target.",
        {{"checkpoint", "WHICH", "last (default), best, or a step"},
         {"part", "NAME", "valid (default) or train"},
         {"output", "FILE", "Write a CSV file instead of printing"},
         {"logits", "", "All outputs of the model, unscaled, instead"}},
        "  dtrain predict runs/quickstart --output predictions.csv\n"}},
      {{"inspect",
        "data CONFIG | model CONFIG | checkpoint PATH",
        "Show what a configuration trains on, the model, or what a checkpoint holds.",
        {{"checkpoint", "WHICH", "Of a run: last (default), best, or a step"}},
        "  dtrain inspect data configs/quickstart.yaml\n"},
       InspectVerb},
      {{"config",
        "show CONFIG | keys [SECTION] | schema | check CONFIG",
        "Show a configuration as it is understood, all keys, or a JSON schema for editors.",
        {{"origin", "", "With show: who set each key"},
         {"minimal", "", "With show: only what was set"},
         {"reference", "", "With keys: as a page"}},
        "  dtrain config show configs/quickstart.yaml --origin\n"},
       ConfigVerb},
      {{"export",
        "RUN --output FILE",
        "Write a run's model as one safetensors file that Python reads.",
        {{"checkpoint", "WHICH", "last (default), best, or a step"},
         {"o,output", "FILE", "Where to"},
         {"names", "A=B,...", "Names of the model = names in the file"}},
        "  dtrain export runs/quickstart --output model.safetensors\n"},
       ExportVerb},
      {{"status", "RUN", "Show how far a run is, while it runs and afterwards.", {}, ""}, StatusVerb},
      {{"why",
        "RUN",
        "Say where a run's time went, who waited for whom, and what would make it faster.",
        {},
        "  dtrain train configs/quickstart.yaml -n 2 log.trace.steps=[20,30]\n  dtrain why runs/quickstart\n"},
       WhyVerb},
      {{"save", "RUN", "Ask a running job for a checkpoint now.", {}, ""}, SaveVerb},
      {{"stop", "RUN", "Ask a running job to save and end; the same train command goes on later.", {}, ""}, StopVerb},
      {{"bench",
        "comm [-n N]",
        "Measure what an all-reduce costs on this host, and predict it for other numbers of ranks.",
        {{"n,ranks", "N", "Processes that take part (default 2)"}},
        "  dtrain bench comm -n 2\n"},
       BenchVerb},
      {{"runs", "[DIRECTORY]", "List the runs in a directory (default runs).", {}, ""}, RunsVerb},
  };
  return verbs;
}

int CliMain(std::span<const std::string> words, const RankProgram& rank_program) {
  StartedWith().assign(words.begin(), words.end());
  if (words.empty() || words[0] == "--help" || words[0] == "-h" || words[0] == "help") {
    Print(Help());
    return words.empty() ? static_cast<int>(ExitCode::kUsage) : 0;
  }
  if (words[0] == "--version") {
    Print(Cat("dtrain ", kVersion, "\n"));
    return 0;
  }
  std::vector<std::string> names;
  for (const Verb& verb : Verbs()) {
    names.push_back(verb.spec.name);
    if (verb.spec.name != words[0]) continue;
    const auto arguments = Arguments::Parse(verb.spec, words.subspan(1));
    if (!arguments.ok()) return ReportError(arguments.status(), ExitCode::kUsage);
    if (arguments->Has("help")) {
      Print(VerbHelp(verb.spec));
      return 0;
    }
    const StatusOr<ExitCode> code = verb.run == nullptr ? HandOver(rank_program) : verb.run(*arguments, verb.spec, rank_program);
    std::fflush(stdout);
    return code.ok() ? static_cast<int>(*code) : ReportError(code.status(), ExitCode::kSetUp);
  }
  const auto nearest = Nearest(words[0], names);
  return ReportError(WithHint(InvalidArgument("dtrain has no verb '", words[0], "'; expected one of ", Join(names, ", ")),
                              nearest ? Cat("did you mean '", *nearest, "'?") : "dtrain --help says what each does"),
                     ExitCode::kUsage);
}

StatusOr<Config> ConfigOf(const Arguments& arguments, const VerbSpec& spec, size_t index) {
  if (arguments.words().size() != index + 1) {
    return UsageError(spec, Cat("found ", arguments.words().size(), " words, expected ", spec.words));
  }
  auto config = LoadConfig(arguments.words()[index], arguments.overrides());
  if (!config.ok()) return WithExitCode(config.status(), ExitCode::kConfiguration);
  return config;
}

StatusOr<std::string> RunOf(const Arguments& arguments, const VerbSpec& spec, size_t index) {
  if (arguments.words().size() != index + 1)
    return UsageError(spec, Cat("found ", arguments.words().size(), " words, expected ", spec.words));
  const std::string& word = arguments.words()[index];
  for (const std::string& path : {word, Cat("runs/", word)}) {
    std::error_code error;
    if (std::filesystem::is_regular_file(RunDirectory(path).resolved(), error)) return path;
  }
  std::vector<std::string> known;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("runs", error)) known.push_back(entry.path().filename().string());
  std::sort(known.begin(), known.end());
  return WithExitCode(WithHint(NotFound("find the run ", word, ": no run directory of that path, nor runs/", word),
                               known.empty() ? "dtrain train CONFIG makes one" : Cat("there are ", Join(known, ", "))),
                      ExitCode::kUsage);
}

StatusOr<std::string> CheckpointOf(const std::string& run, const std::string& which) {
  const CheckpointStore store(PosixStorage(), run, {});
  ASSIGN_OR_RETURN(const auto list, store.List());
  std::vector<std::string> steps;
  std::string newest;
  for (const CheckpointInfo& info : list) {
    if (!info.complete()) continue;
    steps.push_back(Cat(info.step));
    newest = info.path;
    if (which == Cat(info.step)) return info.path;
  }
  if (newest.empty()) return WithHint(NotFound("find a checkpoint of ", run, ": it has no complete one"), "train it first");
  if (which.empty() || which == "last") return newest;
  if (which == "best") {
    ASSIGN_OR_RETURN(const Value result, ReadResult(PosixStorage(), RunDirectory(run).result()));
    const std::string best = result.At("checkpoints.best").is_null() ? "" : result.String("checkpoints.best", "");
    for (const CheckpointInfo& info : list) {
      if (info.complete() && !best.empty() && std::filesystem::path(info.path).filename() == std::filesystem::path(best).filename())
        return info.path;
    }
    return WithHint(NotFound("find the best checkpoint of ", run, ": the run keeps none"),
                    "set checkpoint.keep_best, or use --checkpoint last");
  }
  return WithExitCode(NotFound("find checkpoint '", which, "' of ", run, ": expected last, best or one of the steps ", Join(steps, ", ")),
                      ExitCode::kUsage);
}

}  // namespace dtrain
