# redis.mk: the targets of the chart's old Makefile, calling redisctl. For runbooks that
# say `make redis-health NAMESPACE=...`:
#
#   include redis.mk        # or: make -f redis.mk redis-health NAMESPACE=redis-prod
#
# It adds nothing to redisctl but the old names. Questions are asked as redisctl asks
# them; where there is no terminal, set REDISCTL_FLAGS=--yes. Passwords are no variables:
# redisctl reads them from the release's Secret.
#
# make ends with 2 whatever redisctl ends with, which it names ("Error 10"): a script that
# tells exit codes apart calls redisctl itself.

REDISCTL ?= redisctl

# The variables reach redisctl through the environment of the recipe, each as one word,
# whatever it holds: neither make nor a shell reads them as code.
# Make itself would export what is set on its command line, and expand it on the way.
unexport NAMESPACE RELEASE POD PARAM p PATTERN pattern BACKUP_DIR BACKUP_FILE FILE SNAPSHOT_NAME CMD VERSION TO REVISION
export REDISCTL_NAMESPACE ?= $(value NAMESPACE)
export REDISCTL_RELEASE ?= $(value RELEASE)
export REDIS_MK_POD := $(value POD)
export REDIS_MK_PARAM := $(or $(value PARAM),$(value p))
export REDIS_MK_PATTERN := $(or $(value PATTERN),$(value pattern))
export REDIS_MK_BACKUP_DIR := $(value BACKUP_DIR)
export REDIS_MK_BACKUP := $(or $(value BACKUP_FILE),$(value FILE))
export REDIS_MK_SNAPSHOT := $(value SNAPSHOT_NAME)
export REDIS_MK_CMD := $(value CMD)
export REDIS_MK_VERSION := $(or $(value VERSION),$(value TO))
export REDIS_MK_REVISION := $(value REVISION)

# $(call need,VARIABLE,EXAMPLE) ends a recipe that lacks a variable, as exit code 2.
need = if [ -z "$$$(1)" ]; then echo "make $@ needs $(2)" >&2; exit 2; fi;
run  = $(REDISCTL) $(1) $(REDISCTL_FLAGS)
pod  = $${REDIS_MK_POD:+--pod "$$REDIS_MK_POD"}
dir  = $${REDIS_MK_BACKUP_DIR:+--backup-dir "$$REDIS_MK_BACKUP_DIR"}
# A backup is named by its file, or is the latest one.
backup = "$${REDIS_MK_BACKUP:-latest}"

.PHONY: redis-help
redis-help: ## What replaces what
	@$(REDISCTL) help

# $(1): target without redis-, $(2): what runs.
define redis_target
.PHONY: redis-$(1)
redis-$(1):
	@$(2)
endef
target = $(eval $(call redis_target,$(1),$(2)))

$(call target,health,$$(call run,health $$(pod)))
$(call target,ping,$$(call run,health ping $$(pod)))
$(call target,version,$$(call run,health version $$(pod)))
$(call target,info,$$(call run,info $$(pod)))
$(call target,memory,$$(call run,info memory $$(pod)))
$(call target,stats,$$(call run,info stats $$(pod)))
$(call target,clients,$$(call run,info clients $$(pod)))
$(call target,config,$$(call run,info config $$(pod)))
$(call target,config-get,$$(call need,REDIS_MK_PARAM,PARAM=maxmemory) $$(call run,info config "$$$$REDIS_MK_PARAM" $$(pod)))
$(call target,metrics,$$(call run,info metrics $$(pod)))

$(call target,replication-info,$$(call run,replication info))
$(call target,replication-status,$$(call run,replication info))
$(call target,master-info,$$(call run,replication primary))
$(call target,replica-lag,$$(call run,replication lag))
$(call target,replication-lag,$$(call run,replication lag))
$(call target,role,$$(call need,REDIS_MK_POD,POD=cache-redis-0) $$(call run,replication role "$$$$REDIS_MK_POD"))
$(call target,check-replication,$$(call run,replication check))
$(call target,resync-replica,$$(call need,REDIS_MK_POD,POD=cache-redis-1) $$(call run,replication resync "$$$$REDIS_MK_POD"))

$(call target,backup-rdb,$$(call run,backup rdb $$(pod) $$(dir)))
$(call target,backup-rdb-download,$$(call run,backup rdb $$(pod) $$(dir)))
$(call target,backup-aof,$$(call run,backup aof $$(pod) $$(dir)))
$(call target,backup-config,$$(call run,backup config $$(dir)))
$(call target,backup-k8s-resources,$$(call run,backup resources $$(dir)))
$(call target,full-backup,$$(call run,backup full $$(dir)))
$(call target,backup-all,$$(call run,backup full $$(dir)))
$(call target,create-pvc-snapshot,$$(call run,backup volume $$(pod) $$$${REDIS_MK_SNAPSHOT:+--name "$$$$REDIS_MK_SNAPSHOT"}))
$(call target,backup-pvc-snapshot,$$(call run,backup volume $$(pod) $$$${REDIS_MK_SNAPSHOT:+--name "$$$$REDIS_MK_SNAPSHOT"}))
$(call target,backup-all-namespaces,env -u REDISCTL_NAMESPACE -u REDISCTL_RELEASE $$(call run,backup rdb --all-namespaces $$(dir)))
$(call target,backup-verify,$$(call run,backup verify $$(backup) $$(dir)))

$(call target,restore-rdb,$$(call run,restore rdb $$(backup) $$(dir)))
$(call target,restore-aof,$$(call run,restore aof $$(backup) $$(dir)))
$(call target,restore-config,$$(call run,restore config $$(backup) $$(dir)))
$(call target,disaster-recovery,$$(call need,REDISCTL_NAMESPACE,NAMESPACE=redis-prod) $$(call run,restore full $$(backup) --into "$$$$REDISCTL_NAMESPACE" --create-namespace $$(dir)))
$(call target,restore-from-pvc-snapshot,$$(call need,REDIS_MK_SNAPSHOT,SNAPSHOT_NAME=data-cache-redis-0) $$(call run,restore volume "$$$$REDIS_MK_SNAPSHOT"))

$(call target,promote-replica,$$(call run,failover promote $$$${REDIS_MK_POD:+"$$$$REDIS_MK_POD"}))
$(call target,force-failover,$$(call run,failover force $$$${REDIS_MK_POD:+"$$$$REDIS_MK_POD"}))

$(call target,dbsize,$$(call run,maintenance dbsize $$(pod)))
$(call target,keys,$$(call run,maintenance keys $$$${REDIS_MK_PATTERN:+"$$$$REDIS_MK_PATTERN"} $$(pod)))
$(call target,bigkeys,$$(call run,maintenance bigkeys $$(pod)))
$(call target,flushdb,$$(call run,maintenance flushdb))
$(call target,flushall,$$(call run,maintenance flushall))
$(call target,slowlog,$$(call run,maintenance slowlog $$(pod)))
$(call target,latency,$$(call run,maintenance latency $$(pod)))
$(call target,memory-stats,$$(call run,maintenance memory $$(pod)))
$(call target,save,$$(call run,maintenance save $$(pod)))
$(call target,bgsave,$$(call run,maintenance bgsave $$(pod)))
$(call target,lastsave,$$(call run,maintenance lastsave $$(pod)))
$(call target,aof-rewrite,$$(call run,maintenance aof-rewrite $$(pod)))
$(call target,monitor,$$(call run,maintenance monitor $$(pod)))
# CMD is words for Redis, not for a shell: it is split at blanks, and nothing is expanded.
$(call target,cli,$$(call need,REDIS_MK_CMD,CMD="dbsize") set -f; $$(REDISCTL) maintenance exec $$(pod) $$(REDISCTL_FLAGS) -- $$$$REDIS_MK_CMD)
$(call target,shell,$$(call run,maintenance shell $$(pod)))
$(call target,bash,$$(call run,maintenance shell --bash $$(pod)))
$(call target,logs,$$(call run,maintenance logs $$(pod)))
$(call target,describe,$$(call run,maintenance describe $$(pod)))
$(call target,events,$$(call run,maintenance events))
$(call target,top,$$(call run,maintenance top))
$(call target,port-forward,$$(call run,maintenance port-forward $$(pod)))

$(call target,pre-upgrade-check,$$(call run,upgrade check $$$${REDIS_MK_VERSION:+--to "$$$$REDIS_MK_VERSION"} $$(dir)))
$(call target,post-upgrade-check,$$(call run,upgrade validate))
$(call target,validate-upgrade,$$(call run,upgrade validate))
$(call target,upgrade-rollback,$$(call run,upgrade rollback $$$${REDIS_MK_REVISION:+"$$$$REDIS_MK_REVISION"} $$(dir)))
